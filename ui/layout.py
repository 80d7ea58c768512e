"""The Create page from top to bottom: two columns, or one on a narrow screen."""

from __future__ import annotations

from typing import Any

import gradio as gr
from studio.catalogue import Catalogue
from studio.specs import ModelSpec
from studio.studio import Studio

from ui.adapter_parts import build_adapters
from ui.clickable import clickable
from ui.controls import (
    Controls,
    build_model,
    build_more,
    build_num_images,
    build_prompt,
    build_seed,
)
from ui.examples import Example, render_examples
from ui.live import build_live_note, build_sketch, build_sketch_line, build_typing
from ui.parts import Parts, Undo, View
from ui.solid import build_solid
from ui.stage import render_empty
from ui.starting import build_start

STORAGE_KEY = "croquis-form"
# Not a secret: it only has to be the same after a restart, so that the form is found again.
STORAGE_SECRET = "croquis-form-1"

_MORE = (
    '<button type="button" id="more-button" aria-expanded="false" aria-controls="settings">'
    "More</button>"
)

Made = dict[str, Any]
"""Components by their names in Parts or Controls."""


def build_layout(studio: Studio, examples: tuple[Example, ...]) -> Parts:
    """Build every component of the page, in the order in which the eye meets them."""
    catalogue = studio.catalogue
    model = catalogue.get_model(studio.settings.model)
    pictures = render_examples(examples)
    with gr.Row(elem_id="desk"):
        with gr.Column(elem_id="left"):
            controls, parts = _build_ask(catalogue, model, examples[0].prompt)
            with gr.Column(elem_id="more"):
                more, parts_of_more = _build_more(catalogue, model)
            parts |= parts_of_more
            parts["examples"] = clickable("examples", "example", value=pictures)
        with gr.Column(elem_id="right"):
            parts |= _build_stage(model, pictures)
    return Parts(
        controls=Controls(**controls, **more),
        view=gr.State(View()),
        undo=gr.State(Undo()),
        started=gr.HTML("", visible="hidden", elem_id="started"),
        drawn=gr.HTML("", visible="hidden", elem_id="drawn"),
        ended=gr.HTML("", visible="hidden", elem_id="ended"),
        look_again=gr.Button(visible="hidden", elem_id="look-again"),
        form_model=gr.HTML(model.key, visible="hidden", elem_id="form-model"),
        saved=gr.BrowserState(None, storage_key=STORAGE_KEY, secret=STORAGE_SECRET),
        asked=gr.HTML("0", visible="hidden"),
        answer=gr.Textbox(visible="hidden", elem_id="answer"),
        **parts,
    )


def _build_ask(catalogue: Catalogue, model: ModelSpec, example: str) -> tuple[Made, Made]:
    """The prompt, Create, Stop and the model: all that a first picture needs."""
    with gr.Column(elem_id="ask"):
        prompt = build_prompt(f"For example: {example}")
        with gr.Row(elem_id="go"):
            create = gr.Button("Create", variant="primary", elem_id="create")
            stop = gr.Button("Stop", interactive=False, elem_id="stop")
            choice = build_model(catalogue, model.key)
        typing = build_typing() | build_live_note()
        line = gr.HTML(elem_id="model-line", apply_default_css=False)
        notice = clickable("notice", "undo")
    start = build_start(model)
    controls = {"prompt": prompt, "model": choice, "model_line": line} | start
    return controls, {"create": create, "stop": stop, "notice": notice} | typing


def _build_more(catalogue: Catalogue, model: ModelSpec) -> tuple[Made, Made]:
    """Everything else, quiet until wanted.

    No gr.Accordion: when one opens for the first time, Gradio builds what is in it and sets
    its values a frame later, over whatever was typed there meanwhile.
    """
    gr.HTML(_MORE, elem_id="more-head", apply_default_css=False)
    with gr.Column(elem_id="settings"):
        controls: Made = dict(build_more(catalogue, model))
        with gr.Row(elem_classes="pair"):
            with gr.Column(elem_id="seed-box"):
                controls["seed"] = build_seed(catalogue, model)
                with gr.Row(elem_id="seed-buttons"):
                    random_seed = gr.Button("Random", size="sm", elem_id="random-seed")
                    last_seed = gr.Button("Use last", size="sm", elem_id="last-seed")
            controls["num_images"] = build_num_images(catalogue, model)
        controls["adapters"] = build_adapters()
        dropped = gr.File(
            label="Settings from a picture", type="filepath", height=96, elem_id="dropped"
        )
        brought = gr.UploadButton(
            "Start from a picture of yours",
            file_types=["image"],
            type="filepath",
            elem_id="brought",
        )
    others = {"last_seed": last_seed, "dropped": dropped, "brought": brought}
    return controls, {"random_seed": random_seed} | others


def _build_stage(model: ModelSpec, pictures: str) -> Made:
    """The picture's place, and below it what belongs to the picture."""
    with gr.Column(elem_id="stage"):
        empty = render_empty(model.defaults.width, model.defaults.height, pictures)
        sheet = clickable("sheet", "pick", "retry", "example", value=empty)
        live = gr.HTML("", elem_id="live", apply_default_css=False)
        sketch = build_sketch()
    with gr.Column(elem_id="under"):
        progress = clickable("progress", "stop_all", "follow")
        sketch |= build_sketch_line()
        actions = clickable("actions", "use", "vary", "modify", "stage", "enlarge", "delete")
    solid = build_solid()
    strip = clickable("strip", "pick", "more")
    details = gr.HTML("", elem_id="details", apply_default_css=False)
    below = {"actions": actions, "strip": strip, "details": details}
    return {"sheet": sheet, "live": live, "progress": progress} | sketch | solid | below
