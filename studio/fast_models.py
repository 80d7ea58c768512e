"""Which model draws while a visitor types: one of few steps that is here already."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from studio.errors import ModelUnavailable
from studio.specs import ModelSpec

MOST_STEPS = 8
"""Of a model that draws while somebody waits for each word."""


def is_fast(spec: ModelSpec) -> bool:
    """Whether a model draws from words in few steps, in one call without other checkpoints."""
    return (
        spec.defaults.num_inference_steps <= MOST_STEPS
        and spec.backend == "diffusers"
        and spec.text_encoder is None
        and "text_to_image" in spec.tasks
    )


def find_fast(
    chosen: ModelSpec, models: Iterable[ModelSpec], is_here: Callable[[ModelSpec], bool]
) -> ModelSpec:
    """The model that draws the sketches of a chosen one: itself, a relative or any other.

    A relative shares its `base`, so that the sketch is close to the picture. The last resort is
    the smallest one.

    Raises:
        ModelUnavailable: none is here.
    """
    fast = sorted((spec for spec in models if is_fast(spec)), key=lambda spec: spec.memory_gb)
    same = [spec for spec in fast if spec.key == chosen.key]
    relatives = [spec for spec in fast if chosen.base is not None and spec.base == chosen.base]
    for spec in (*same, *relatives, *fast):
        if is_here(spec):
            return spec
    raise ModelUnavailable(
        "No model that is fast enough to draw while you type is on this machine. Download one of "
        f"{MOST_STEPS} steps or fewer under Models, such as SD-Turbo."
    )
