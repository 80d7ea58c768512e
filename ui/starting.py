"""The part of the form that says which picture a drawing starts from, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr
from gradio.components import Component
from PIL import Image, ImageChops
from studio.errors import InvalidRequest
from studio.ingredients import START_TASKS, Start
from studio.inputs import PREFIX
from studio.request import GenerationRequest
from studio.specs import ModelSpec

from ui import words
from ui.clickable import clickable

Values = Mapping[str, object]

EXTENDS = ("extend_left", "extend_top", "extend_right", "extend_bottom")
START_FIELDS = (
    "start_picture",
    "start_mask",
    "start_task",
    "start_area",
    "start_strength",
    *EXTENDS,
)
"""The form's fields of a start, besides those of a request from words."""
STAGE_SCALE = 4
"""How many times wider a model that enlarges makes a picture."""
STRENGTH = 0.6
EXTEND = 16
PAINTED = "painted"
AREAS = {
    "left half": (0.0, 0.0, 0.5, 1.0),
    "right half": (0.5, 0.0, 1.0, 1.0),
    "upper half": (0.0, 0.0, 1.0, 0.5),
    "lower half": (0.0, 0.5, 1.0, 1.0),
    "middle": (0.25, 0.25, 0.75, 0.75),
    "all but the middle": (0.25, 0.25, 0.75, 0.75),
}
"""Masks that need no brush: left, top, right, bottom as shares of the picture."""


def start_defaults() -> dict[str, object]:
    """No start; what the other fields hold when one is chosen."""
    texts: dict[str, object] = {
        "start_picture": "",
        "start_mask": "",
        "start_task": "image_to_image",
    }
    texts |= {"start_area": PAINTED}
    return texts | {"start_strength": STRENGTH} | dict.fromkeys(EXTENDS, EXTEND)


def tasks_of(model: ModelSpec) -> list[str]:
    """What a model can make of a picture."""
    return [task for task in START_TASKS if task in model.tasks]


def to_start(values: Values) -> Start | None:
    """The start that the form stands for.

    Raises:
        InvalidRequest: a value breaks its rule.
    """
    if not values.get("start_picture"):
        return None
    given = {name: _whole(values[name]) for name in EXTENDS}
    for name in (*EXTENDS, "start_strength"):
        if values.get(name) is None:
            raise InvalidRequest(f"`{name}` is empty: write a number.")
    task = str(values["start_task"])
    return Start(
        task=task,
        picture=str(values["start_picture"]),
        strength=values["start_strength"],  # type: ignore[arg-type]
        mask=str(values["start_mask"]) or None if task == "inpainting" else None,
        margins=tuple(given.values()) if task == "outpainting" else (0,) * 4,  # type: ignore[arg-type]
    )


def from_start(request: GenerationRequest) -> dict[str, object]:
    """Form values that start a drawing in the same way; the size without what was added."""
    values = start_defaults()
    start = request.start
    if start is None:
        return values
    values |= {"start_picture": start.picture, "start_mask": start.mask or ""}
    values |= {"start_task": start.task, "start_strength": start.strength}
    if start.task == "outpainting":
        values |= dict(zip(EXTENDS, start.margins, strict=True))
        left, top, right, bottom = start.margins
        values |= {"width": request.width - left - right, "height": request.height - top - bottom}
    return values


def build_start(model: ModelSpec) -> dict[str, Component]:
    """Build the part by names in Controls; page.css hides it until a picture is chosen."""
    with gr.Column(elem_id="start"):
        view = clickable("start-view", "unstart")
        # Gradio compares what comes with the choices built here: all that any model has.
        task = gr.Radio(
            [(words.TASKS[task], task) for task in START_TASKS],
            value="image_to_image",
            label=words.LABELS["start_task"],
            elem_id="start-task",
        )
        area = gr.Radio(
            [PAINTED, *AREAS],
            value=PAINTED,
            visible=False,
            label=words.LABELS["start_area"],
            info="What is drawn anew: what you paint over below, or a part of the picture.",
            elem_id="start-area",
        )
        paint = gr.ImageEditor(
            visible=False,
            label="Paint over what is to be drawn anew",
            show_label=False,
            type="pil",
            image_mode="RGBA",
            sources=(),
            transforms=(),
            layers=False,
            brush=gr.Brush(default_size="auto", colors=["#a5391a"], color_mode="fixed"),
            elem_id="start-paint",
        )
        strength = gr.Slider(
            0.05,
            1.0,
            STRENGTH,
            step=0.05,
            label=words.LABELS["start_strength"],
            info=_STRENGTH,
            elem_id="start-strength",
        )
        extends = _build_extends()
    made: dict[str, Component] = {"start_view": view, "start_task": task, "start_area": area}
    hidden = {
        name: gr.Textbox("", visible="hidden", elem_id=name.replace("_", "-"))
        for name in ("start_picture", "start_mask")
    }
    return made | {"start_paint": paint, "start_strength": strength} | extends | hidden


def fit_start(model: ModelSpec, values: Values) -> dict[str, dict[str, Any]]:
    """What the part shows for a model and the form's values, as properties by name."""
    picture, task = str(values.get("start_picture") or ""), values.get("start_task")
    shown: dict[str, dict[str, Any]] = {
        "start_view": {"value": render_start(picture) if picture else ""},
        "start_task": {"choices": _choices(model)},
        "start_area": {"visible": task == "inpainting"},
        "start_strength": {"visible": task not in ("upscaling", "image_to_3d")},
    }
    return shown | {name: {"visible": task == "outpainting"} for name in EXTENDS}


def is_painting(values: Values) -> bool:
    """Whether the form asks for a brush."""
    wants = values.get("start_task") == "inpainting" and values.get("start_area") == PAINTED
    return bool(values.get("start_picture")) and wants


def mask_from_area(area: str, size: tuple[int, int]) -> Image.Image:
    """The mask of one of AREAS, L of (width, height) px, white where it is drawn anew."""
    left, top, right, bottom = AREAS[area]
    width, height = size
    around, inside = (255, 0) if area == "all but the middle" else (0, 255)
    mask = Image.new("L", size, around)
    corner, end = (left * width, top * height), (right * width, bottom * height)
    mask.paste(inside, (round(corner[0]), round(corner[1]), round(end[0]), round(end[1])))
    return mask


def mask_from_paint(painted: Mapping[str, object] | None) -> Image.Image | None:
    """What was painted in the editor, L, white where there is colour; None if nothing was."""
    layers = painted.get("layers") if painted else None
    mask: Image.Image | None = None
    for layer in layers if isinstance(layers, list) else ():
        alpha = layer.getchannel("A").point(lambda value: 255 if value else 0)
        mask = alpha if mask is None else ImageChops.lighter(mask, alpha)
    return mask if mask is not None and mask.getbbox() else None


def render_start(picture: str) -> str:
    """The picture that a drawing starts from, and the way back to words alone."""
    address = picture_address(picture)
    button = words.button("unstart", "Remove", title="Draw from words alone again")
    return (
        f'<div class="start"><img src="{escape(address)}" alt="The picture to start from" '
        f'width="72" height="72"><h2>Start from this picture</h2>{button}</div>'
    )


def picture_address(picture: str) -> str:
    """Where the page finds a small form of a kept or a brought picture."""
    if picture.startswith(PREFIX):
        return f"inputs/{picture.removeprefix(PREFIX)}.png"
    return f"pictures/{picture}.webp"


_STRENGTH = "How much of the picture may change: 0.05 hardly, 1 all of it; at first 0.6."


def _build_extends() -> dict[str, Component]:
    with gr.Row(elem_id="extends", elem_classes="pair"):
        return {
            name: gr.Number(
                EXTEND,
                step=8,
                visible=False,
                label=words.LABELS[name],
                info="px, a multiple of 8.",
                elem_id=name.replace("_", "-"),
            )
            for name in EXTENDS
        }


def _choices(model: ModelSpec) -> list[tuple[str, str]]:
    return [(words.TASKS[task], task) for task in tasks_of(model)]


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value
