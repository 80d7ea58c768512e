"""Many jobs at once with one model: each gets a pipeline whose denoiser takes turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

import psutil
import torch
from diffusers import AutoencoderDC, DiffusionPipeline, UNet2DConditionModel
from torch import nn

from pipelines.remembering import Remembering
from pipelines.seamless import wrapping_twins
from pipelines.shells import build_shell
from pipelines.twins import is_grouped, is_offloaded

if TYPE_CHECKING:
    from pipelines.loader import LoadedModel
    from pipelines.stepping import Stepper

ROOM = 2
"""On a CPU: free memory over the model's own that lets several jobs be drawn with it at once."""

_Value = TypeVar("_Value")
_Lent = dict[str, "LoadedModel | None"]
"""By tiling."""


class Company:
    """Where jobs are drawn side by side. For one thread, the stepper's."""

    def __init__(self, stepper: Stepper) -> None:
        self._stepper = stepper
        self._remembering = Remembering()
        self._lent: WeakKeyDictionary[LoadedModel, _Lent] = WeakKeyDictionary()

    def lend(self, loaded: LoadedModel, tiling: str) -> LoadedModel | None:
        """The model for one of many jobs; None if it can only be drawn with by one at a time.

        Nothing is ever done to its modules: a seamless picture is drawn by twins that wrap.
        """
        lent = self._lent.setdefault(loaded, {})
        if tiling not in lent:
            lent[tiling] = self._build(loaded, tiling) if takes_turns(loaded) else None
        return lent[tiling]

    def each(self, works: Sequence[Callable[[], _Value]]) -> Iterator[_Value]:
        """Do all side by side; what they return in their order, each as soon as it is there.

        To be called in a course. If one raises, or nobody asks for the rest, the others end.
        """
        caller = self._stepper.current()
        assert caller is not None
        courses = [self._stepper.spawn(caller.owner, work) for work in works]
        try:
            for course in courses:
                yield self._stepper.wait(course)
        finally:
            for course in courses:
                self._stepper.end(course)

    def _build(self, loaded: LoadedModel, tiling: str) -> LoadedModel:
        parts = {} if tiling == "none" else wrapping_twins(loaded.pipeline, tiling)
        name = "unet" if "unet" in loaded.pipeline.components else "transformer"
        module = parts.get(name) or loaded.pipeline.components[name]
        device = str(loaded.pipeline.device)
        label = f"{loaded.spec.key} {tiling} on {device}, torch {torch.__version__},"
        can_join = isinstance(module, UNet2DConditionModel) and has_room(loaded)
        parts[name] = self._stepper.stand_in(module, label, can_join=can_join)
        parts |= self._remembering.stand_ins(loaded.pipeline)
        return replace(loaded, pipeline=build_shell(loaded, parts=parts))


def takes_turns(loaded: LoadedModel) -> bool:
    """Whether nothing but arguments and weights decides what the model's denoiser does.

    Hooks that move modules belong to one job, and models of other backends make their own calls.
    """
    pipeline = loaded.pipeline
    if loaded.spec.backend != "diffusers" or not isinstance(pipeline, DiffusionPipeline):
        return False
    if is_offloaded(pipeline) or is_grouped(pipeline):
        return False
    if isinstance(pipeline.components.get("vae"), AutoencoderDC):
        return False  # `tiles.decoding` changes it for the time of a call
    named = [pipeline.components.get(name) for name in ("unet", "transformer")]
    return sum(isinstance(one, nn.Module) for one in named) == 1


def is_joinable(loaded: LoadedModel) -> bool:
    """Whether pictures of one request are better drawn side by side, each as its own."""
    return isinstance(loaded.pipeline.components.get("unet"), UNet2DConditionModel)


def has_room(loaded: LoadedModel) -> bool:
    """Whether memory is left for what several pictures at once take; a GPU tells by itself."""
    if loaded.pipeline.device.type != "cpu":
        return True
    return psutil.virtual_memory().available > ROOM * loaded.nbytes
