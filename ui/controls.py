"""The form's controls, each with one sentence of help: its range and the model's default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from html import escape
from typing import Any

import gradio as gr
from gradio.components import Component
from studio.catalogue import Availability, Catalogue
from studio.request import TILINGS
from studio.specs import ModelSpec

from ui import sizes, words
from ui.adapter_parts import fillable
from ui.form import FIELDS, HIDEABLE, without_choice
from ui.model_line import render_model
from ui.passes import build_passes, fit_passes
from ui.starting import fit_start

UPSCALE_CHOICES = [("Off", 1), ("4 times", 4)]
SYNTAX_CHOICES = [(label.capitalize(), syntax) for syntax, label in words.SYNTAXES.items()]
TILING_CHOICES = [(words.TILINGS[tiling].capitalize(), tiling) for tiling in TILINGS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """Everything that the visitor sets; the names are those of GenerationRequest."""

    prompt: gr.Textbox
    negative_prompt: gr.Textbox
    model: gr.Dropdown
    scheduler: gr.Dropdown
    num_inference_steps: gr.Number
    guidance_scale: gr.Number
    width: gr.Number
    height: gr.Number
    seed: gr.Textbox
    num_images: gr.Number
    upscale: gr.Radio
    tiling: gr.Radio
    prompt_syntax: gr.Radio
    exact: gr.Checkbox
    second_scale: gr.Number
    second_strength: gr.Slider
    refiner: gr.Checkbox
    adapters: dict[str, Component]
    """What is added to the model, see ui/adapters.py."""
    start_view: gr.HTML
    start_picture: gr.Textbox
    """Id of the picture to start from, not shown; "" is none."""
    start_mask: gr.Textbox
    """Id of a mask that was kept before, not shown."""
    start_task: gr.Radio
    start_area: gr.Radio
    start_paint: gr.ImageEditor
    """Not a field: what was painted becomes a kept mask when Create is pressed."""
    start_strength: gr.Slider
    extend_left: gr.Number
    extend_top: gr.Number
    extend_right: gr.Number
    extend_bottom: gr.Number
    size: gr.Radio
    """Not a field: a shortcut that sets width and height."""
    model_line: gr.HTML
    lacks_note: gr.HTML
    """What the model does not offer, in place of the hidden controls."""

    def by_field(self) -> dict[str, Component]:
        """The controls that make a request, by the name of their field."""
        named = {spec.name: getattr(self, spec.name) for spec in fields(self)} | self.adapters
        return {name: named[name] for name in FIELDS}

    def by_name(self) -> dict[str, Component]:
        """Every part that an answer may change, by its name here."""
        named = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        del named["start_paint"]  # its pictures are files, which only the server may name
        return named | fillable(named.pop("adapters"))


def build_prompt(placeholder: str) -> gr.Textbox:
    """Build the prompt box, ready to type."""
    return gr.Textbox(
        label=words.LABELS["prompt"],
        placeholder=placeholder,
        lines=3,
        max_lines=6,
        autofocus=True,
        elem_id="prompt",
        show_label=False,
        html_attributes=gr.InputHTMLAttributes(spellcheck=True),
    )


def build_model(catalogue: Catalogue, key: str) -> gr.Dropdown:
    """Build the choice of model."""
    choices = _model_choices(catalogue)
    return gr.Dropdown(choices, value=key, label="Model", elem_id="model", show_label=False)


def build_more(catalogue: Catalogue, model: ModelSpec) -> dict[str, Component]:
    """Build the controls inside More, by their names in Controls."""
    return _build_paper(catalogue, model) | _build_method(catalogue, model)


def build_seed(catalogue: Catalogue, model: ModelSpec) -> gr.Textbox:
    """Build the seed's text field; empty is random."""
    return gr.Textbox(
        "",
        placeholder="random",
        elem_id="seed",
        max_lines=1,
        html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
        **_words_of("seed", catalogue, model),
    )


def build_num_images(catalogue: Catalogue, model: ModelSpec) -> gr.Number:
    """Build the number of pictures that one click draws."""
    return gr.Number(1, elem_id="num-images", **_words_of("num_images", catalogue, model))


def _build_paper(catalogue: Catalogue, model: ModelSpec) -> dict[str, Component]:
    """What is on the paper and how large it is."""

    def said(name: str) -> dict[str, Any]:
        return _words_of(name, catalogue, model)

    own = model.defaults
    left_out = gr.Textbox("", lines=2, max_lines=4, elem_id="negative", **said("negative_prompt"))
    syntax = gr.Radio(SYNTAX_CHOICES, value="a1111", elem_id="syntax", **said("prompt_syntax"))
    size = gr.Radio(
        _size_choices(model),
        value=sizes.key_of(model, own.width, own.height),
        elem_id="size",
        **said("size"),
    )
    with gr.Row(elem_classes="pair"):
        width = gr.Number(own.width, elem_id="width", **said("width"))
        height = gr.Number(own.height, elem_id="height", **said("height"))
    upscale = gr.Radio(UPSCALE_CHOICES, value=own.upscale, elem_id="upscale", **said("upscale"))
    tiling = gr.Radio(TILING_CHOICES, value="none", elem_id="tiling", **said("tiling"))
    note = gr.HTML(elem_id="lacks-note", apply_default_css=False)
    made = {"negative_prompt": left_out, "size": size, "width": width, "height": height}
    others = {"upscale": upscale, "tiling": tiling, "prompt_syntax": syntax}
    return made | others | {"lacks_note": note}


def _build_method(catalogue: Catalogue, model: ModelSpec) -> dict[str, Component]:
    """How the picture is drawn."""

    def said(name: str) -> dict[str, Any]:
        return _words_of(name, catalogue, model)

    own = model.defaults
    with gr.Row(elem_classes="pair"):
        steps = gr.Number(own.num_inference_steps, elem_id="steps", **said("num_inference_steps"))
        guidance = gr.Number(
            own.guidance_scale, step=0.5, elem_id="guidance", **said("guidance_scale")
        )
    # `allow_custom_value`: a page may be older than the choices that Gradio would compare with;
    # the studio refuses in words, inside the page, where Gradio shows a passing toast.
    scheduler = gr.Dropdown(
        _scheduler_choices(catalogue, model),
        value=own.scheduler,
        elem_id="scheduler",
        allow_custom_value=True,
        **said("scheduler"),
    )
    made = {"num_inference_steps": steps, "guidance_scale": guidance, "scheduler": scheduler}
    made |= build_passes(model)
    return made | {"exact": gr.Checkbox(False, elem_id="exact", **said("exact"))}


def _words_of(name: str, catalogue: Catalogue, model: ModelSpec) -> dict[str, Any]:
    """A control's label and its sentence of help, as keyword arguments."""
    label = words.LABELS.get(name, name.title())
    return {"label": label, "info": help_of(catalogue, model)[name]}


def fit(
    catalogue: Catalogue,
    model: ModelSpec,
    availability: Availability,
    values: Mapping[str, object],
) -> dict[str, dict[str, object]]:
    """What the controls show for a model and a start, as properties by the control's name.

    The values of the fields are not among them: those are the visitor's.
    """
    shown: dict[str, dict[str, object]] = {
        name: {"info": text} for name, text in help_of(catalogue, model).items()
    }
    shown["model"] = {"choices": _model_choices(catalogue)}
    shown["scheduler"]["choices"] = _scheduler_choices(catalogue, model)
    shown["size"]["choices"] = _size_choices(model)
    for name, is_offered in _offers(model).items():
        shown[name]["visible"] = is_offered
    shown["model_line"] = {"value": render_model(model, availability)}
    shown["lacks_note"] = {"value": _render_lacks(model)}
    return shown | fit_passes(model, values) | fit_start(model, values)


def _offers(model: ModelSpec) -> dict[str, bool]:
    """Whether the model has a choice at all, by the field's name."""
    hidden = without_choice(model)
    return {name: name not in hidden for name in HIDEABLE if name in _WHY_NOT}


_WHY_NOT = {
    "upscale": "draws large; it offers no enlarging.",
    "prompt_syntax": "reads brackets as text.",
    "tiling": "cannot join its edges; it offers no seamless pictures.",
    "negative_prompt": "knows no words to leave out.",
    "guidance_scale": "has its guidance built in.",
    "scheduler": "has one scheduler.",
}


def _render_lacks(model: ModelSpec) -> str:
    lacks = [_WHY_NOT[name] for name, is_offered in _offers(model).items() if not is_offered]
    return "".join(f"<p>{escape(model.title)} {text}</p>" for text in lacks)


def help_of(catalogue: Catalogue, model: ModelSpec) -> dict[str, str]:
    """One sentence of help per control."""
    own = model.defaults
    usable = catalogue.schedulers_of(model.key)
    side = f"{model.min_side} to {model.max_side} px in steps of {model.multiple_of}"
    kept = words.size(own.width * own.upscale, own.height * own.upscale)
    as_here = ", as this model sets it" if own.guidance_scale == 1 else ""
    enlarged = "off" if own.upscale == 1 else f"{own.upscale} times, so {kept} px"
    return {
        "negative_prompt": "What to keep out of the picture, up to 10,000 characters; "
        f"this model: nothing. Without effect while Guidance is 1{as_here}.",
        "prompt_syntax": "(red:1.3) counts more, [red] less, [red:blue:0.5] changes halfway, and "
        "what is too long is read in pieces; or brackets are text; this model: weigh words.",
        "size": f"The paper's shape, drawn in px; this model: {words.size(own.width, own.height)}.",
        "width": f"{side}; this model: {own.width}.",
        "height": f"{side}; this model: {own.height}.",
        "upscale": f"Enlarges the finished drawing, off or 4 times; this model: {enlarged}.",
        "tiling": "Joins opposite edges, so that the picture repeats without a seam; "
        "off, sideways, up and down or both; this model: off.",
        "num_inference_steps": "More is finer and slower, 1 to 200; "
        f"this model: {own.num_inference_steps}.",
        "guidance_scale": "How closely to follow the prompt, 1 (off) to 30; "
        f"this model: {own.guidance_scale:g}.",
        "scheduler": "The way from noise to picture, "
        f"{words.count(len(usable), 'choice')}; this model: {_label(catalogue, own.scheduler)}.",
        "seed": "The same seed draws the same picture, 0 to 4,294,967,295; empty: a new one "
        "each time.",
        "exact": "Exact to the last bit of every pixel, even while others draw, but slower then; "
        "this model: off.",
        "num_images": f"Drawn by one click, 1 to {model.max_images}; this model: 1.",
    }


def _label(catalogue: Catalogue, key: str) -> str:
    spec = catalogue.schedulers.get(key)
    return spec.label if spec else key


def _size_choices(model: ModelSpec) -> list[tuple[str, str]]:
    return [(size.label, size.key) for size in sizes.sizes_of(model)]


def _model_choices(catalogue: Catalogue) -> list[tuple[str, str]]:
    return [(spec.title, spec.key) for spec in catalogue.models.values()]


def _scheduler_choices(catalogue: Catalogue, model: ModelSpec) -> list[tuple[str, str]]:
    return [(spec.label, spec.key) for spec in catalogue.schedulers_of(model.key).values()]
