"""How each kind of model is loaded and called: one module for each `backend` of the catalogue.

A module has two functions:

    load_pipeline(checkpoint, device, dtype) -> DiffusionPipeline, or what it has in its place
    draw_batch(batch) -> list[Result]

`one_call` covers all that diffusers loads with `from_pretrained` and draws with one call.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin
    from PIL import Image

    from pipelines.checkpoints import Checkpoint
    from pipelines.loader import LoadedModel
    from studio.request import GenerationRequest
    from studio.specs import SchedulerSpec

BACKENDS = {
    "diffusers": "one_call",
    "deepfloyd": "deepfloyd",
    "hosted": "hosted",
    "kandinsky": "kandinsky",
    "karlo": "karlo",
    "min_dalle": "dalle_mega",
    "shap_e": "shap_e",
    "vq_diffusion": "vq_diffusion",
}
"""Module of this folder by backend; no other is ever imported."""


@dataclass(frozen=True, slots=True)
class Result:
    """One drawn picture."""

    pixels: np.ndarray
    """(H, W, 3), values in [0, 1]."""
    is_flagged: bool = False
    """The verdict of the checkpoint's own safety checker."""
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    """Files that belong to it, by suffix, such as {".glb": ...}."""
    notes: tuple[str, ...] = ()
    """What the visitor should know about it."""


class Steps(Protocol):
    """Counts the steps of one batch, reports them, and raises Cancelled when it is stopped."""

    def begin(self, total_steps: int) -> None:
        """Say how many steps there will be, over all stages of the batch."""

    def watch(self, scheduler: SchedulerMixin) -> None:
        """Count each step of a scheduler, and show previews of what it is at."""

    def wait(self, text: str) -> None:
        """Show why no step is made yet."""

    def advance(self, preview: bytes | None = None) -> None:
        """Count one step that no scheduler makes; `preview` is a JPEG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Pictures of one request that are drawn at once."""

    loaded: LoadedModel
    request: GenerationRequest
    scheduler_spec: SchedulerSpec
    seeds: Sequence[int]
    """One for each picture."""
    images: Mapping[str, Image.Image]
    """The pictures that the request names, RGB or L, by their ids there."""
    steps: Steps
    refiner: LoadedModel | None = None
    embeddings: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Arguments of the call in the place of the prompts, where the text encoder is freed before
    the rest is loaded."""


class Family(Protocol):
    """What a module of this folder offers."""

    def load_pipeline(self, checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> Any:
        """Load the components of a checkpoint to a device."""

    def draw_batch(self, batch: Batch) -> list[Result]:
        """Draw one picture for each seed."""


def family_of(backend: str) -> Family:
    """The module that loads and draws models of a backend; imported when first wanted."""
    return cast("Family", importlib.import_module(f"{__name__}.{BACKENDS[backend]}"))
