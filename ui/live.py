"""Drawing while the visitor types: the switch, the sketch on the stage, and its words.

What the browser does of it is in assets/live.js.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr
from studio.request import GenerationRequest
from studio.specs import ModelSpec

from ui import sizes, words
from ui.adapters import ROWS
from ui.clickable import clickable
from ui.counting import build_count
from ui.form import defaults_of, shown_of, to_request

SKETCHED = ("prompt", "negative_prompt", "seed", "width", "height", "tiling", "prompt_syntax")
"""The form's fields that a sketch follows."""
LEFT_OUT = ("start_picture", "control_picture", "reference_picture", "embeddings", *ROWS)
"""Those that it leaves out, and says so."""
LIVE_FIELDS = ("model", *SKETCHED, *LEFT_OUT)


def build_typing() -> dict[str, Any]:
    """Build the line that is seen under the prompt, its count and the switch; see page.css."""
    with gr.Row(elem_id="typing"):
        build_count()
        switch = gr.Checkbox(
            False, label="Draw while I type", elem_id="live-switch", container=False
        )
    return {"live_switch": switch}


def build_live_note() -> dict[str, Any]:
    """Build what tells about the sketches: below Create, which must not move when it changes."""
    return {"live_note": gr.HTML("", elem_id="live-note", apply_default_css=False)}


def build_sketch() -> dict[str, Any]:
    """Build the layer on the stage that a sketch is shown in."""
    return {"sketch": gr.HTML("", elem_id="sketch", apply_default_css=False)}


def build_sketch_line() -> dict[str, Any]:
    """Build what stands under a sketch, in the place of a picture's actions."""
    return {
        "sketch_line": clickable("sketch-line", "keep"),
        "sketch_ask": gr.Button(visible="hidden", elem_id="sketch-ask"),
        "sketched": gr.State(None),
    }


def sketch_request(
    fast: ModelSpec, chosen: ModelSpec, values: Mapping[str, object]
) -> GenerationRequest:
    """What the form asks for, as the fast model draws it: its own steps, guidance and size.

    Raises:
        InvalidRequest: a value breaks its rule.
    """
    wanted = defaults_of(fast) | {name: values[name] for name in SKETCHED}
    width, height = values["width"], values["height"]
    own = [(spec.defaults.width, spec.defaults.height) for spec in (fast, chosen)]
    if own[0] != own[1] or not (sizes.fits(fast, width) and sizes.fits(fast, height)):
        near = sizes.nearest(fast, width, height)
        wanted |= {"width": near.width, "height": near.height}
    if values["tiling"] not in fast.tiling_choices:
        wanted["tiling"] = "none"
    return to_request(shown_of(fast, wanted))


def render_sketch(request: GenerationRequest, picture: bytes, asked: str) -> str:
    """A sketch over the sheet; `picture` is a JPEG, `asked` the number of its question."""
    code = base64.b64encode(picture).decode()
    alt = f"Sketch: {words.shorten(request.prompt, 500)}"
    return (
        f'<div class="sheet sketched" data-asked="{escape(asked)}" '
        f'style="--aspect:{request.width / request.height:.4f}">'
        f'<img src="data:image/jpeg;base64,{code}" alt="{escape(alt)}"></div>'
    )


def render_sketch_line(request: GenerationRequest, fast: ModelSpec) -> str:
    """That it is not kept, what drew it, and the way to keep it."""
    by = f"By {fast.title}, seed {request.seed}."
    return (
        f'<div class="sketchline"><p><strong>Sketch, not kept.</strong> '
        f'<span class="by">{escape(by)}</span></p>{words.button("keep", "Keep it")}</div>'
    )


def render_on(fast: ModelSpec, chosen: ModelSpec, values: Mapping[str, object]) -> str:
    """What draws the sketches, and what they leave out."""
    if fast.key == chosen.key:
        said = f"{fast.title} draws as you write. Nothing is kept until you press Create."
    elif fast.base is not None and fast.base == chosen.base:
        said = (
            f"{fast.title} sketches as you write, and nothing is kept. "
            f"Create draws it with {chosen.title}, from the same seed."
        )
    else:
        said = (
            f"{chosen.title} has no fast variant on this machine: {fast.title} sketches, and "
            f"nothing is kept. Create draws it with {chosen.title}."
        )
    if any(str(values.get(name) or "").strip() for name in LEFT_OUT):
        said += " The sketch follows the words alone, not the pictures and LoRAs you chose."
    return f"<p>{escape(said)}</p>"


def render_waiting(fast: ModelSpec, asked: str, *, is_loading: bool) -> str:
    """Why there is no sketch yet; assets/live.js asks again."""
    why = f"Loading {fast.title}" if is_loading else "Much is drawn here now"
    said = f"{why}: the sketch comes as soon as it can. Go on writing."
    return f'<p data-again="{escape(asked)}">{escape(said)}</p>'


def render_refused(text: str) -> str:
    """Why there is no sketch; the form stays as it is."""
    return f'<p class="refused">No sketch: {escape(words.plain(text))}</p>'
