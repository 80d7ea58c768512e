"""The part of More about what is added to a model: LoRAs, embeddings, pictures to follow."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr
from gradio.components import Component
from PIL import Image
from studio.adapter_files import KeptAdapter
from studio.controls import MADE_HERE, REFERENCE, ControlMaker
from studio.errors import InvalidRequest
from studio.ingredients import CONTROLS, Control, Lora, Reference
from studio.request import MAX_LORAS, GenerationRequest
from studio.specs import ModelSpec
from studio.weights import BASES

from ui import words
from ui.clickable import clickable
from ui.starting import picture_address

Values = Mapping[str, object]

ROWS = tuple(f"lora_{number}" for number in range(1, MAX_LORAS + 1))
ADAPTER_FIELDS = (
    *(f"{row}{end}" for row in ROWS for end in ("", "_weight", "_on")),
    "embeddings",
    "control_picture",
    "control_kind",
    "control_weight",
    "control_ready",
    "reference_picture",
    "reference_weight",
)
"""The form's fields of what is added to a model."""
KINDS = {
    "canny": "Edges",
    "line": "Lines",
    "depth": "Depth",
    "segmentation": "Areas",
}
REFERENCE_WEIGHT = 0.6
PREVIEW_SIDE = 256
"""Px of the longer side of a preview."""
NOT_FILLED = ("_shown", "control_file", "reference_file")

_NAMED = re.compile(r"\((input-[0-9a-f]{64})\)$")


def adapter_defaults() -> dict[str, object]:
    """Nothing is added."""
    values: dict[str, object] = {}
    for row in ROWS:
        values |= {row: "", f"{row}_weight": 1.0, f"{row}_on": True}
    values |= {"embeddings": "", "control_picture": "", "control_kind": "canny"}
    values |= {"control_weight": 1.0, "control_ready": False}
    return values | {"reference_picture": "", "reference_weight": REFERENCE_WEIGHT}


def to_adapters(values: Values) -> dict[str, Any]:
    """The fields of a request that the form stands for.

    Raises:
        InvalidRequest: a value breaks its rule.
    """
    loras = tuple(
        Lora(source=_source(values[row]), weight=_number(values, f"{row}_weight"))
        for row in ROWS
        if str(values.get(row) or "").strip() and values.get(f"{row}_on", True)
    )
    lines = str(values.get("embeddings") or "").splitlines()
    made: dict[str, Any] = {"loras": loras}
    made["embeddings"] = tuple(_embedding(line) for line in lines if line.strip())
    if values.get("control_picture"):
        made["control"] = Control(
            kind=str(values["control_kind"]),
            picture=str(values["control_picture"]),
            weight=_number(values, "control_weight"),
            is_ready=bool(values.get("control_ready")),
        )
    if values.get("reference_picture"):
        made["reference"] = Reference(
            picture=str(values["reference_picture"]), weight=_number(values, "reference_weight")
        )
    return made


def from_adapters(request: GenerationRequest) -> dict[str, object]:
    """Form values that add the same."""
    values = adapter_defaults()
    for row, lora in zip(ROWS, request.loras, strict=False):
        values |= {row: lora.source, f"{row}_weight": lora.weight}
    values["embeddings"] = "\n".join(request.embeddings)
    control, reference = request.control, request.reference
    if control is not None:
        values |= {"control_picture": control.picture, "control_kind": control.kind}
        values |= {"control_weight": control.weight, "control_ready": control.is_ready}
    if reference is not None:
        values |= {"reference_picture": reference.picture, "reference_weight": reference.weight}
    return values


def without_adapters(model: ModelSpec, offered: Sequence[str]) -> dict[str, object]:
    """Defaults of the fields that are hidden for a model: what it cannot do is never sent.

    Args:
        offered: the kinds of pictures that it can follow.
    """
    hidden = {
        "lora_": not model.lora,
        "embeddings": not model.textual_inversion,
        "control_": not any(kind in CONTROLS for kind in offered),
        "reference_": REFERENCE not in offered,
    }
    starts = tuple(start for start, is_hidden in hidden.items() if is_hidden)
    defaults = adapter_defaults().items()
    return {name: value for name, value in defaults if name.startswith(starts or ("-",))}


def added(kept: KeptAdapter, values: Values) -> dict[str, object]:
    """The fields with a file that was just brought in the first free place.

    Raises:
        InvalidRequest: all places are taken.
    """
    named = f"{kept.name} ({kept.source})"
    if kept.weights.kind == "embedding":
        lines = str(values.get("embeddings") or "").splitlines()
        return {"embeddings": "\n".join([*filter(str.strip, lines), named])}
    free = next((row for row in ROWS if not str(values.get(row) or "").strip()), None)
    if free is None:
        raise InvalidRequest(f"A drawing takes {MAX_LORAS} LoRAs. Remove one first.")
    return {free: named, f"{free}_weight": 1.0, f"{free}_on": True}


def removed(row: str, values: Values) -> dict[str, object]:
    """The rows without one of them; those below move up.

    Raises:
        InvalidRequest: there is no such row.
    """
    if row not in ROWS:
        raise InvalidRequest("There is no such LoRA on this page.")
    left = [one for one in ROWS if one != row and str(values.get(one) or "").strip()]
    result = {name: value for name, value in adapter_defaults().items() if name.startswith("lora_")}
    for place, one in zip(ROWS, left, strict=False):
        result |= {f"{place}{end}": values[f"{one}{end}"] for end in ("", "_weight", "_on")}
    return result


def described(kept: KeptAdapter) -> str:
    """One sentence on a file that was brought: what it is, for which base, its words."""
    weights = kept.weights
    what = "An embedding" if weights.kind == "embedding" else "A LoRA"
    base = f" for {BASES[weights.base]}" if weights.base else ""
    rank = f", rank {weights.rank}" if weights.rank else ""
    triggers = (
        f" It was taught the words: {', '.join(weights.triggers)}." if weights.triggers else ""
    )
    return f"“{kept.name}” is here. {what}{base}{rank}.{triggers}"


def build_adapters() -> dict[str, Component]:
    """Build the part, by names in Controls and Parts; hidden until a model is known."""
    with gr.Column(elem_id="loras", visible="hidden") as loras:
        gr.HTML("<h2>LoRA</h2>", apply_default_css=False)
        made: dict[str, Component] = {"loras_box": loras}
        for row in ROWS:
            made |= _build_row(row)
    made |= _build_embeddings()
    made["adapter_file"] = gr.UploadButton(
        "Add a LoRA or embedding file", type="filepath", elem_id="adapter-file", visible="hidden"
    )
    made |= _build_control() | _build_reference()
    made["adapters_note"] = gr.HTML(elem_id="adapters-note", apply_default_css=False)
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
    control, reference = (
        str(values.get(f"{name}_picture") or "") for name in ("control", REFERENCE)
    )
    shown: dict[str, dict[str, Any]] = {
        "loras_box": _visible(model.lora),
        "embeddings": _visible(model.textual_inversion),
        "adapter_file": _visible(model.lora or model.textual_inversion),
        "control_box": _visible(bool(kinds)),
        "control_chosen": _visible(bool(control)),
        "control_view": {"value": _render_picture("control", control, preview)},
        "control_kind": {"choices": [(KINDS[kind], kind) for kind in kinds or CONTROLS]},
        "reference_box": _visible(REFERENCE in offered),
        "reference_chosen": _visible(bool(reference)),
        "reference_view": {"value": _render_picture("reference", reference, "")},
        "adapters_note": {"value": _render_lacks(model, offered)},
    }
    taken = [row for row in ROWS if str(values.get(row) or "").strip()]
    last = ROWS.index(taken[-1]) + 1 if taken else 0
    return shown | {f"{row}_box": _visible(place <= last) for place, row in enumerate(ROWS)}


def _visible(is_shown: bool) -> dict[str, Any]:
    """Hidden parts stay in the page, so that their values do."""
    return {"visible": True if is_shown else "hidden"}


def _build_row(row: str) -> dict[str, Component]:
    """One LoRA: which, how much of it, whether, and away with it."""
    number = row.removeprefix("lora_")
    with gr.Row(elem_id=f"{row}-box", elem_classes="lora", visible="hidden") as box:
        source = gr.Textbox(
            "",
            label=f"LoRA {number}",
            info="owner/name or owner/name/file.safetensors of the Hub; empty: none.",
            placeholder="owner/name",
            max_lines=1,
            elem_id=row.replace("_", "-"),
            html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
        )
        weight = gr.Number(
            1.0,
            step=0.1,
            label="Weight",
            info="-2 to 2; at first 1.",
            elem_id=f"{row}-weight".replace("_", "-"),
        )
        is_on = gr.Checkbox(True, label="On", elem_id=f"{row}-on".replace("_", "-"))
        view = clickable(f"{row}-remove".replace("_", "-"), "unlora", value=_remove(row, number))
    return {
        f"{row}_box": box,
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
            visible="hidden",
            elem_id="embeddings",
        )
    }


def _build_control() -> dict[str, Component]:
    with gr.Column(elem_id="control", elem_classes="followed", visible="hidden") as box:
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
        with gr.Column(elem_id="control-chosen", visible="hidden") as chosen:
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
    made = {"control_box": box, "control_chosen": chosen, "control_view": view}
    made |= {"control_kind": kind, "control_ready": ready, "control_weight": weight}
    made |= {"control_shown": shown, "control_file": file}
    return made | {"control_picture": _hidden("control-picture")}


def _build_reference() -> dict[str, Component]:
    with gr.Column(elem_id="reference", elem_classes="followed", visible="hidden") as box:
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
        with gr.Column(elem_id="reference-chosen", visible="hidden") as chosen:
            view = clickable("reference-view", "unrefer")
            said = "How much of its subject and style, 0 to 1; at first 0.6."
            weight = _slider("reference_weight", 1.0, REFERENCE_WEIGHT, said)
    made = {"reference_box": box, "reference_chosen": chosen, "reference_view": view}
    made |= {"reference_weight": weight, "reference_shown": shown, "reference_file": file}
    return made | {"reference_picture": _hidden("reference-picture")}


def _slider(name: str, most: float, value: float, info: str) -> gr.Slider:
    elem_id = name.replace("_", "-")
    return gr.Slider(0.0, most, value, step=0.05, label="Strength", info=info, elem_id=elem_id)


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


def makes_preview(values: Values) -> bool:
    """Whether the page can show what of the control picture will be followed."""
    is_made = values.get("control_kind") in MADE_HERE and not values.get("control_ready")
    return bool(values.get("control_picture")) and is_made


def preview_of(maker: ControlMaker, kind: str, picture: Image.Image) -> str:
    """Address of the control picture that is made of a picture, small."""
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    buffer = io.BytesIO()
    maker(kind, picture).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def fillable(made: Mapping[str, Component]) -> dict[str, Component]:
    """The parts that an answer may change: all but buttons."""
    return {name: part for name, part in made.items() if not name.endswith(NOT_FILLED)}


def _source(value: object) -> str:
    """What a row names: a file that was brought has its id behind its name."""
    text = str(value).strip()
    found = _NAMED.search(text)
    return found[1] if found else text


def _embedding(line: str) -> str:
    """The same for a line, which may say another word: "moss.safetensors (input-...) as moss"."""
    head, separator, word = line.strip().rpartition(" as ")
    source = _source(head if separator else word)
    return f"{source} as {word}" if separator else source


def _number(values: Values, name: str) -> float:
    value = values.get(name)
    if value is None:
        raise InvalidRequest(f"`{name}` is empty: write a number.")
    return value  # type: ignore[return-value]
