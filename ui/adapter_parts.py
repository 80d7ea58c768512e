"""How the part of More about what is added to a model is built, and what of it a model shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr
from gradio.components import Component
from studio.controls import REFERENCE
from studio.ingredients import CONTROLS
from studio.specs import ModelSpec

from ui import words
from ui.adapters import KINDS, REFERENCE_WEIGHT, ROWS, Values
from ui.clickable import clickable
from ui.starting import picture_address

NOT_FILLED = ("_shown", "control_file", "reference_file")

_LORAS = (
    "<h2>LoRA</h2><p>Small weights added to the model: owner/name or owner/name/file.safetensors "
    "of the Hub, or a file of yours. Weight: -2 to 2, at first 1.</p>"
)


def build_adapters() -> dict[str, Component]:
    """Build the part, by names; hidden until a model is known."""
    made: dict[str, Component] = {}
    with gr.Column(elem_id="loras"):
        gr.HTML(_LORAS, apply_default_css=False)
        for row in ROWS:
            made |= _build_row(row)
    made |= _build_embeddings()
    made["adapter_file"] = gr.UploadButton(
        "Add a LoRA or embedding file", type="filepath", elem_id="adapter-file"
    )
    made |= _build_control() | _build_reference()
    every = ["loras", "embeddings", "adapter-file", "control", "reference"]
    note = gr.HTML(_render_hidden(every), elem_id="adapters-note", apply_default_css=False)
    made["adapters_note"] = note
    return made


def fit_adapters(
    model: ModelSpec, offered: Sequence[str], values: Values, preview: str = ""
) -> dict[str, dict[str, Any]]:
    """What the part shows for a model and the form's values, as properties by name.

    Args:
        offered: the kinds of pictures that the model can follow.
        preview: address of the control picture as it will be followed; "" if it is not known.
    """
    kinds = [kind for kind in CONTROLS if kind in offered]
    control = str(values.get("control_picture") or "")
    reference = str(values.get("reference_picture") or "")
    taken = [place for place, row in enumerate(ROWS) if str(values.get(row) or "").strip()]
    is_shown = {
        "loras": model.lora,
        "embeddings": model.textual_inversion,
        "adapter-file": model.lora or model.textual_inversion,
        "control": bool(kinds),
        "control-chosen": bool(control),
        "reference": REFERENCE in offered,
        "reference-chosen": bool(reference),
    }
    rows = {
        f"{_id(row)}-box": place <= max(taken, default=-1) + 1 for place, row in enumerate(ROWS)
    }
    hidden = [name for name, shown in (is_shown | rows).items() if not shown]
    return {
        "control_view": {"value": _render_picture("control", control, preview)},
        "control_kind": {"choices": [(KINDS[kind], kind) for kind in kinds or CONTROLS]},
        "reference_view": {"value": _render_picture("reference", reference, "")},
        "adapters_note": {"value": _render_hidden(hidden) + _render_lacks(model, offered)},
    }


def _render_hidden(names: Sequence[str]) -> str:
    """What assets/page.css hides: Gradio's own "hidden" leaves rows and columns where they are."""
    return f'<span hidden data-hides="{" ".join(names)}"></span>'


def _id(name: str) -> str:
    return name.replace("_", "-")


def fillable(made: Mapping[str, Component]) -> dict[str, Component]:
    """The parts that an answer may change: all but buttons."""
    return {name: part for name, part in made.items() if not name.endswith(NOT_FILLED)}


def _build_row(row: str) -> dict[str, Component]:
    """One LoRA: which, how much of it, whether, and away with it."""
    number = row.removeprefix("lora_")
    with gr.Row(elem_id=f"{_id(row)}-box", elem_classes="lora"):
        source = gr.Textbox(
            "",
            label=f"LoRA {number}",
            placeholder="owner/name",
            max_lines=1,
            elem_id=_id(row),
            html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
        )
        weight = gr.Number(
            1.0,
            step=0.1,
            label="Weight",
            elem_id=f"{_id(row)}-weight",
        )
        is_on = gr.Checkbox(True, label="On", elem_id=f"{_id(row)}-on")
        view = clickable(f"{_id(row)}-remove", "unlora", value=_remove(row, number))
    return {
        row: source,
        f"{row}_weight": weight,
        f"{row}_on": is_on,
        f"{row}_view": view,
    }


def _remove(row: str, number: str) -> str:
    return words.button("unlora", "Remove", value=row, title=f"Draw without LoRA {number}")


def _build_embeddings() -> dict[str, Component]:
    return {
        "embeddings": gr.Textbox(
            "",
            label="Embeddings",
            info="Words taught to the model, one a line: owner/name, or owner/name as word. Write "
            "the word into the prompt, or into what to leave out.",
            lines=1,
            max_lines=5,
            elem_id="embeddings",
        )
    }


def _build_control() -> dict[str, Component]:
    with gr.Column(elem_id="control", elem_classes="followed"):
        gr.HTML("<h2>Control picture</h2>", apply_default_css=False)
        with gr.Row(elem_classes="sources"):
            shown = gr.Button("The picture shown", size="sm", elem_id="control-shown")
            file = gr.UploadButton(
                "A picture of yours",
                file_types=["image"],
                type="filepath",
                size="sm",
                elem_id="control-file",
            )
        with gr.Column(elem_id="control-chosen"):
            view = clickable("control-view", "uncontrol")
            kind = gr.Radio(
                [(KINDS[kind], kind) for kind in CONTROLS],
                value="canny",
                label="What is followed",
                info="Edges and lines are made here; areas must have ADE20K’s colours already.",
                elem_id="control-kind",
            )
            ready = gr.Checkbox(
                False,
                label="It shows that already",
                info="White edges or lines on black, depth with near bright, areas in colours.",
                elem_id="control-ready",
            )
            weight = _slider("control_weight", 2.0, 1.0, "How closely, 0 to 2; at first 1.")
    made: dict[str, Component] = {"control_view": view}
    made |= {"control_kind": kind, "control_ready": ready, "control_weight": weight}
    made |= {"control_shown": shown, "control_file": file}
    return made | {"control_picture": _hidden("control-picture")}


def _build_reference() -> dict[str, Component]:
    with gr.Column(elem_id="reference", elem_classes="followed"):
        gr.HTML("<h2>Reference picture</h2>", apply_default_css=False)
        with gr.Row(elem_classes="sources"):
            shown = gr.Button("The picture shown", size="sm", elem_id="reference-shown")
            file = gr.UploadButton(
                "A picture of yours",
                file_types=["image"],
                type="filepath",
                size="sm",
                elem_id="reference-file",
            )
        with gr.Column(elem_id="reference-chosen"):
            view = clickable("reference-view", "unrefer")
            said = "How much of its subject and style, 0 to 1; at first 0.6."
            weight = _slider("reference_weight", 1.0, REFERENCE_WEIGHT, said)
    made: dict[str, Component] = {"reference_view": view}
    made |= {"reference_weight": weight, "reference_shown": shown, "reference_file": file}
    return made | {"reference_picture": _hidden("reference-picture")}


def _slider(name: str, most: float, value: float, said: str) -> gr.Slider:
    return gr.Slider(0.0, most, value, step=0.05, label="Strength", info=said, elem_id=_id(name))


def _hidden(elem_id: str) -> gr.Textbox:
    return gr.Textbox("", visible="hidden", elem_id=elem_id)


def _render_picture(name: str, picture: str, preview: str) -> str:
    """The picture that is followed, what is made of it, and the way back."""
    if not picture:
        return ""
    event = "uncontrol" if name == "control" else "unrefer"
    button = words.button(event, "Remove", title=f"Draw without a {name} picture")
    made = f'<img class="made" src="{escape(preview)}" alt="What is followed of it">'
    address = escape(picture_address(picture))
    shown = f'<img src="{address}" alt="The {name} picture">' + (made if preview else "")
    return f'<div class="follow">{shown}{button}</div>'


def _render_lacks(model: ModelSpec, offered: Sequence[str]) -> str:
    lacks = []
    if not model.lora:
        lacks.append("takes no LoRA.")
    if not any(kind in CONTROLS for kind in offered) or REFERENCE not in offered:
        what = "a reference" if REFERENCE not in offered else ""
        both = "a control or a reference" if not offered else what or "a control"
        lacks.append(f"has no network to follow {both} picture.")
    return "".join(f"<p>{escape(model.title)} {text}</p>" for text in lacks)
