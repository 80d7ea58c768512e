"""Draws the pictures of one request with a loaded model."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from PIL import Image

from pipelines.device import is_out_of_memory, release_memory
from pipelines.previews import estimate_clean, preview_jpeg
from pipelines.safety import Flaw, find_flaw
from pipelines.schedulers import build_scheduler, count_steps, seed_noise, watch_steps
from pipelines.seamless import AXES, picture_multiple, seamless
from studio.errors import Cancelled, OutOfMemory
from studio.request import MAX_SEED, GenerationRequest

if TYPE_CHECKING:
    from pipelines.loader import LoadedModel
    from studio.specs import SchedulerSpec

PREVIEW_INTERVAL_S = 0.2


class Watcher(Protocol):
    """Who follows a request while it is drawn."""

    def is_cancelled(self) -> bool:
        """Asked before every step."""

    def on_step(
        self, step: int, total_steps: int, image_index: int, preview: bytes | None, batch: int
    ) -> None:
        """Told about every step of the `batch` pictures from `image_index` on.

        `preview` is a JPEG, five times a second at most.
        """

    def add_note(self, text: str) -> None:
        """Told what the visitor should know about the pictures."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One picture, or what is wrong with it."""

    index: int
    image: Image.Image | Flaw


def draw(
    loaded: LoadedModel,
    scheduler_spec: SchedulerSpec,
    request: GenerationRequest,
    indices: Sequence[int],
    watcher: Watcher,
) -> Iterator[Drawn]:
    """Draw the pictures `indices` of a request, each as soon as it is ready.

    On a CPU one at a time: a batch is no faster there, and so a picture has the same bits alone
    and in a request of four. On a GPU as many at once as its memory takes.

    Raises:
        Cancelled: the watcher said so; within one step.
        OutOfMemory: not even one picture, decoded in tiles, fits.
        InvalidRequest: the scheduler cannot make a schedule of so many steps.
    """
    call = _Call(loaded, scheduler_spec, request, watcher)
    if note := _note_on_sides(loaded, request):
        watcher.add_note(note)
    waiting = list(indices)
    size = len(waiting) if picks_batches(loaded.pipeline.device) else 1
    in_tiles = False
    while waiting:
        batch = waiting[:size]
        drawn = call.try_batch(batch, in_tiles=in_tiles)
        if drawn is not None:
            yield from drawn
            waiting = waiting[size:]
        elif size > 1:
            size = len(batch) // 2
        elif not in_tiles:
            in_tiles = True
            watcher.add_note("Memory was short: decoded in tiles, which may differ a little.")
        else:
            raise OutOfMemory(
                f"A picture of {request.width} x {request.height} px does not fit into the memory "
                f"of this machine with {loaded.spec.title}. Choose a smaller size."
            )


def _note_on_sides(loaded: LoadedModel, request: GenerationRequest) -> str | None:
    """Say why a seamless picture may show a seam: a scale of the U-Net has half a pixel left."""
    if request.tiling == "none":
        return None
    multiple = picture_multiple(loaded.pipeline)
    sides = zip(AXES[request.tiling], (request.width, request.height), strict=True)
    if any(wraps and side % multiple for wraps, side in sides):
        return f"A faint seam may show: edges join exactly at sides in steps of {multiple} px."
    return None


def picks_batches(device: torch.device) -> bool:
    """Whether several pictures at once are faster than one after the other on this device."""
    return device.type != "cpu"


def build_shell(
    loaded: LoadedModel,
    scheduler: SchedulerMixin,
    pipeline_class: type[DiffusionPipeline] | None = None,
) -> DiffusionPipeline:
    """Build a pipeline for one call around the shared modules, with its own scheduler.

    A diffusers pipeline keeps the state of its call on itself and in its scheduler, so each call
    gets its own of these two. The tokenizer keeps its padding too, but a copy takes 40 ms: it is
    shared, and one thread draws with a loaded model at a time. `pipeline_class` is another class
    of the same family, such as the image-to-image one.
    """
    shared = loaded.pipeline
    shell_class = pipeline_class or type(shared)
    parts = {**shared.components, "scheduler": scheduler}
    wanted = inspect.signature(shell_class.__init__).parameters
    options = {name: shared.config[name] for name in wanted if name in shared.config}
    shell = shell_class(**{**options, **{k: v for k, v in parts.items() if k in wanted}})
    shell.set_progress_bar_config(disable=True)
    return shell


@dataclass(slots=True)
class _Call:
    """What stays the same between the batches of one request."""

    loaded: LoadedModel
    scheduler_spec: SchedulerSpec
    request: GenerationRequest
    watcher: Watcher
    last_preview: float = -math.inf

    def try_batch(self, batch: list[int], *, in_tiles: bool) -> list[Drawn] | None:
        """Draw a batch; None if it does not fit into the memory."""
        try:
            pipeline = self.loaded.pipeline
            wrapped = seamless(pipeline, self.request.tiling, in_tiles=in_tiles)
            with _tiled(pipeline.vae, in_tiles), wrapped:
                return self._draw_batch(batch)
        except RuntimeError as exc:
            if not is_out_of_memory(exc):
                raise
        # Only here, with the exception gone, are the tensors of the failed call free.
        release_memory()
        return None

    def _draw_batch(self, batch: list[int]) -> list[Drawn]:
        request = self.request
        seeds = [(request.seed + index) % (MAX_SEED + 1) for index in batch]
        scheduler = build_scheduler(self.scheduler_spec, self.loaded.scheduler_config)
        seed_noise(scheduler, seeds)
        total_steps = count_steps(scheduler, self.scheduler_spec, request.num_inference_steps)
        steps = _Steps(self, batch, total_steps, scheduler)
        steps.report(0, None)
        watch_steps(scheduler, steps.on_step)
        output = build_shell(self.loaded, scheduler)(
            request.prompt,
            negative_prompt=request.negative_prompt,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            width=request.width,
            height=request.height,
            num_images_per_prompt=len(batch),
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            output_type="np",
        )
        return [
            Drawn(index, _to_image(pixels, is_flagged))
            for index, pixels, is_flagged in zip(
                batch, output.images, _flags(output, len(batch)), strict=True
            )
        ]


@dataclass(slots=True)
class _Steps:
    """Counts the steps of one batch, reports them, and stops the call when it is cancelled."""

    call: _Call
    batch: list[int]
    total_steps: int
    scheduler: SchedulerMixin
    step: int = 0

    def on_step(
        self, model_output: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor
    ) -> None:
        self.step += 1
        now = time.monotonic()
        preview = None
        if now - self.call.last_preview >= PREVIEW_INTERVAL_S:
            self.call.last_preview = now
            clean = estimate_clean(self.scheduler, model_output, timestep, sample)
            preview = preview_jpeg(clean[0], self.call.loaded.preview_map)
        self.report(self.step, preview)

    def report(self, step: int, preview: bytes | None) -> None:
        watcher = self.call.watcher
        if watcher.is_cancelled():
            raise Cancelled("Stopped.")
        watcher.on_step(step, self.total_steps, self.batch[0], preview, len(self.batch))


@contextmanager
def _tiled(vae: torch.nn.Module, in_tiles: bool) -> Iterator[None]:
    """Decode in tiles inside the block: the VAE is shared, the next call gets it as it was."""
    if not in_tiles:
        yield
        return
    vae.enable_tiling()
    try:
        yield
    finally:
        vae.disable_tiling()


def _flags(output: object, count: int) -> list[bool]:
    """The verdicts of the checkpoint's own safety checker, if it bundles one."""
    return getattr(output, "nsfw_content_detected", None) or [False] * count


def _to_image(pixels: np.ndarray, is_flagged: bool) -> Image.Image | Flaw:
    """Turn pixels (H, W, 3) in [0, 1] into a picture, exactly as diffusers does."""
    flaw = find_flaw(pixels, is_flagged)
    return flaw or Image.fromarray((pixels * 255).round().astype("uint8"))
