"""The part of the form about what comes after the first drawing: a second one, a refiner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.components import Component
from studio.errors import InvalidRequest
from studio.ingredients import SecondPass
from studio.request import GenerationRequest
from studio.specs import ModelSpec

from ui import words

Values = Mapping[str, object]

PASS_FIELDS = ("second_scale", "second_strength", "refiner")
"""The form's fields of what comes after the first drawing."""
STRENGTH = 0.5


def pass_defaults() -> dict[str, object]:
    """Neither."""
    return {"second_scale": 1, "second_strength": STRENGTH, "refiner": False}


def to_passes(values: Values) -> dict[str, Any]:
    """The fields of a request that the form stands for; raises InvalidRequest."""
    passes: dict[str, Any] = {"refiner": bool(values.get("refiner"))}
    scale = values.get("second_scale") or 1
    if scale == 1:
        return passes
    if values.get("second_strength") is None:
        raise InvalidRequest("`second_strength` is empty: write a number.")
    second = SecondPass(scale=scale, strength=values["second_strength"])  # type: ignore[arg-type]
    return passes | {"second_pass": second}


def from_passes(request: GenerationRequest) -> dict[str, object]:
    """Form values that draw in the same way."""
    values = pass_defaults() | {"refiner": request.refiner}
    second = request.second_pass
    if second is None:
        return values
    return values | {"second_scale": second.scale, "second_strength": second.strength}


def build_passes(model: ModelSpec) -> dict[str, Component]:
    """Build the controls, by their names in Controls."""
    shown = fit_passes(model, pass_defaults())
    scale = gr.Number(
        1,
        step=0.5,
        label=words.LABELS["second_scale"],
        info="Draws the finished picture over, so many times as large, for more detail; "
        "1 (off) to 4, at first 1.",
        elem_id="second-scale",
        visible=shown["second_scale"]["visible"],
    )
    strength = gr.Slider(
        0.05,
        1.0,
        STRENGTH,
        step=0.05,
        label=words.LABELS["second_strength"],
        info="How much the second drawing may change, 0.05 to 1; at first 0.5.",
        elem_id="second-strength",
        visible=False,
    )
    refiner = gr.Checkbox(
        False,
        label=words.LABELS["refiner"],
        info="Lets a second model draw the last fifth of the steps; off at first.",
        elem_id="refiner",
        visible=shown["refiner"]["visible"],
    )
    return {"second_scale": scale, "second_strength": strength, "refiner": refiner}


def fit_passes(model: ModelSpec, values: Values) -> dict[str, dict[str, Any]]:
    """What the controls show for a model and the form's values, as properties by name."""
    has_second = model.image_to_image_class is not None
    is_on = has_second and values.get("second_scale") not in (1, None)
    return {
        "second_scale": {"visible": has_second},
        "second_strength": {"visible": is_on},
        "refiner": {"visible": model.refiner is not None},
    }
