"""Draws the pictures of one request with a loaded model."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import torch
from PIL import Image

from pipelines.device import is_out_of_memory, release_memory
from pipelines.families import Batch, Result, family_of
from pipelines.previews import estimate_clean, preview_jpeg
from pipelines.safety import Flaw, find_flaw
from pipelines.schedulers import watch_steps
from pipelines.seamless import AXES, picture_multiple, seamless
from pipelines.tiles import decoding
from studio.errors import Cancelled, OutOfMemory
from studio.request import MAX_SEED, GenerationRequest

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

    from pipelines.loader import LoadedModel
    from studio.specs import SchedulerSpec

PREVIEW_INTERVAL_S = 0.2
SHARED_START = ("inpainting", "outpainting", "upscaling")
"""Tasks whose picture to start from is encoded with noise, once for a whole batch."""


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

    def on_message(self, text: str) -> None:
        """Told why there is no step yet; raises Cancelled to stop."""

    def add_note(self, text: str) -> None:
        """Told what the visitor should know about the pictures."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One picture, or what is wrong with it."""

    index: int
    image: Image.Image | Flaw
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    """Files that belong to it, by suffix."""


def draw(
    loaded: LoadedModel,
    scheduler_spec: SchedulerSpec,
    request: GenerationRequest,
    indices: Sequence[int],
    watcher: Watcher,
    images: Mapping[str, Image.Image] | None = None,
    refiner: LoadedModel | None = None,
    embeddings: Mapping[str, torch.Tensor] | None = None,
) -> Iterator[Drawn]:
    """Draw the pictures `indices` of a request, each as soon as it is ready.

    On a CPU one at a time: a batch is no faster there, and so a picture has the same bits alone
    and in a request of four. On a GPU as many at once as its memory takes.

    Args:
        images: the pictures that the request names, by their ids.
        refiner: the model that draws the last steps, if the request wants one.
        embeddings: what a text encoder that is freed by now said of the prompts.

    Raises:
        Cancelled: the watcher said so; within one step.
        OutOfMemory: not even one picture, decoded in tiles, fits.
        InvalidRequest: the scheduler cannot make a schedule of so many steps.
    """
    call = _Call(loaded, scheduler_spec, request, watcher, images or {}, refiner, embeddings or {})
    for note in (_note_on_sides(loaded, request), _note_on_steps(scheduler_spec, request)):
        if note:
            watcher.add_note(note)
    waiting = list(indices)
    in_batches = picks_batches(loaded.pipeline.device) and not _draws_alone(loaded, request)
    size = len(waiting) if in_batches else 1
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


def _note_on_steps(spec: SchedulerSpec, request: GenerationRequest) -> str | None:
    if spec.fixed_steps in (None, request.num_inference_steps):
        return None
    return f"{spec.label} always takes {spec.fixed_steps} steps."


def picks_batches(device: torch.device) -> bool:
    """Whether several pictures at once are faster than one after the other on this device."""
    return device.type != "cpu"


def _draws_alone(loaded: LoadedModel, request: GenerationRequest) -> bool:
    """Whether a picture would be another one in a batch.

    diffusers' pipelines for inpainting and x4 upscaling encode the picture to start from once,
    with noise of the first generator: the others would go on with other noise than alone.
    """
    is_one_call = loaded.spec.backend == "diffusers"
    return is_one_call and request.start is not None and request.start.task in SHARED_START


@dataclass(slots=True)
class _Call:
    """What stays the same between the batches of one request."""

    loaded: LoadedModel
    scheduler_spec: SchedulerSpec
    request: GenerationRequest
    watcher: Watcher
    images: Mapping[str, Image.Image]
    refiner: LoadedModel | None
    embeddings: Mapping[str, torch.Tensor]
    last_preview: float = -math.inf

    def try_batch(self, batch: list[int], *, in_tiles: bool) -> list[Drawn] | None:
        """Draw a batch; None if it does not fit into the memory."""
        try:
            pipeline = self.loaded.pipeline
            wrapped = seamless(pipeline, self.request.tiling, in_tiles=in_tiles)
            with decoding(pipeline.components.get("vae"), in_tiles), wrapped:
                return self._draw_batch(batch)
        except RuntimeError as exc:
            if not is_out_of_memory(exc):
                raise
        # Only here, with the exception gone, are the tensors of the failed call free.
        release_memory()
        return None

    def _draw_batch(self, indices: list[int]) -> list[Drawn]:
        seeds = [(self.request.seed + index) % (MAX_SEED + 1) for index in indices]
        batch = Batch(
            loaded=self.loaded,
            request=self.request,
            scheduler_spec=self.scheduler_spec,
            seeds=seeds,
            images=self.images,
            steps=_Steps(self, indices),
            refiner=self.refiner,
            embeddings=self.embeddings,
        )
        results = family_of(self.loaded.spec.backend).draw_batch(batch)
        for note in chain.from_iterable(result.notes for result in results):
            self.watcher.add_note(note)
        return [
            Drawn(index, _to_image(result), result.attachments)
            for index, result in zip(indices, results, strict=True)
        ]


@dataclass(slots=True)
class _Steps:
    """Counts the steps of one batch, reports them, and stops the call when it is cancelled."""

    call: _Call
    batch: list[int]
    total_steps: int = 0
    step: int = 0

    def begin(self, total_steps: int) -> None:
        self.total_steps = total_steps
        self._report(None)

    def watch(self, scheduler: SchedulerMixin) -> None:
        def on_step(output: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor) -> None:
            self.advance(self._preview(scheduler, output, timestep, sample))

        watch_steps(scheduler, on_step)

    def wait(self, text: str) -> None:
        self.call.watcher.on_message(text)

    def advance(self, preview: bytes | None = None) -> None:
        self.step += 1
        self._report(preview)

    def _preview(
        self,
        scheduler: SchedulerMixin,
        output: torch.Tensor,
        timestep: torch.Tensor,
        sample: torch.Tensor,
    ) -> bytes | None:
        """A JPEG of what the model expects now; None if the last one is fresh, or none can be."""
        preview_map, now = self.call.loaded.preview_map, time.monotonic()
        if preview_map is None or now - self.call.last_preview < PREVIEW_INTERVAL_S:
            return None
        self.call.last_preview = now
        clean = estimate_clean(scheduler, output, timestep, sample)
        if clean is None or not preview_map.reads(clean[0]):
            return None
        request = self.call.request
        return preview_jpeg(clean[0], preview_map, request.width / request.height)

    def _report(self, preview: bytes | None) -> None:
        watcher = self.call.watcher
        if watcher.is_cancelled():
            raise Cancelled("Stopped.")
        watcher.on_step(self.step, self.total_steps, self.batch[0], preview, len(self.batch))


def _to_image(result: Result) -> Image.Image | Flaw:
    """Turn pixels in [0, 1] into a picture, exactly as diffusers does."""
    flaw = find_flaw(result.pixels, result.is_flagged)
    return flaw or Image.fromarray((result.pixels * 255).round().astype("uint8"))
