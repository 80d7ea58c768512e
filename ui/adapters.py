"""The part of More about what is added to a model: LoRAs, embeddings, pictures to follow."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image
from studio.adapter_files import KeptAdapter
from studio.controls import MADE_HERE, REFERENCE, ControlMaker
from studio.errors import InvalidRequest
from studio.ingredients import CONTROLS, Control, Lora, Reference
from studio.request import MAX_LORAS, GenerationRequest
from studio.specs import ModelSpec
from studio.weights import BASES

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


def told_of(request: GenerationRequest) -> list[tuple[str, str]]:
    """What a request adds to its model, as names and sentences; "" is nothing."""
    loras = [f"{_short(lora.source)} at {lora.weight:g}" for lora in request.loras]
    control, reference = request.control, request.reference
    follows = f"{KINDS[control.kind].lower()}, strength {control.weight:g}" if control else ""
    return [
        ("LoRA", ", ".join(loras)),
        ("Embeddings", ", ".join(map(_short, request.embeddings))),
        ("Follows", follows),
        ("Reference", f"a picture, strength {reference.weight:g}" if reference else ""),
    ]


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


def _short(source: str) -> str:
    """A source as a reader wants it: a file of the visitor's has a long id."""
    return re.sub(r"input-([0-9a-f]{8})[0-9a-f]{56}", r"your file \1", source)


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
