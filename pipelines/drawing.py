"""Draws the pictures of one request with a loaded model."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import torch
from PIL import Image

from pipelines.company import Company, is_joinable
from pipelines.device import is_out_of_memory, release_memory
from pipelines.families import Batch, Result, family_of
from pipelines.safety import Flaw, find_flaw
from pipelines.seamless import AXES, picture_multiple, seamless
from pipelines.steps import RequestSteps, Watcher
from pipelines.tiles import decoding
from studio.errors import OutOfMemory
from studio.request import MAX_SEED, GenerationRequest

if TYPE_CHECKING:
    from pipelines.loader import LoadedModel
    from studio.specs import SchedulerSpec

SHARED_START = ("inpainting", "outpainting", "upscaling")
"""Tasks whose picture to start from is encoded with noise, once for a whole batch."""


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
    company: Company | None = None,
) -> Iterator[Drawn]:
    """Draw the pictures `indices` of a request, each as soon as it is ready.

    On a GPU as many in one call as its memory takes. On a CPU each by a call of its own, so that
    it has the same bits alone and in a request of four; in company these calls go side by side.

    Args:
        images: the pictures that the request names, by their ids.
        refiner: the model that draws the last steps, if the request wants one.
        embeddings: what a text encoder that is freed by now said of the prompts.
        company: where other jobs are drawn at the same time; the caller runs in a course of it.

    Raises:
        Cancelled: the watcher said so; within one step.
        OutOfMemory: not even one picture, decoded in tiles, fits.
        InvalidRequest: the scheduler cannot make a schedule of so many steps.
    """
    shared = company.lend(loaded, request.tiling) if company else None
    if company is not None and shared is not None and refiner is not None:
        refiner = company.lend(refiner, "none") or refiner
    steps = RequestSteps(watcher, loaded.preview_map, request.width / request.height)
    call = _Call(
        loaded, scheduler_spec, request, images or {}, refiner, embeddings or {}, steps, shared
    )
    for note in (_note_on_sides(loaded, request), _note_on_steps(scheduler_spec, request)):
        if note:
            watcher.add_note(note)
    waiting = list(indices)
    if company is not None and shared is not None and _goes_side_by_side(loaded, request):
        waiting = yield from _draw_side_by_side(call, company, waiting)
    yield from _draw_in_batches(call, waiting)


def _draw_side_by_side(
    call: _Call, company: Company, indices: list[int]
) -> Generator[Drawn, None, list[int]]:
    """Draw each picture by a call of its own, all at once; returns those that did not fit."""
    works = [functools.partial(call.try_batch, [index]) for index in indices]
    left = []
    for index, drawn in zip(indices, company.each(works), strict=True):
        if drawn is None:
            left.append(index)
        else:
            yield from drawn
    return left


def _draw_in_batches(call: _Call, waiting: list[int]) -> Iterator[Drawn]:
    """Draw as many in one call as pays and fits, and the rest after them."""
    loaded, request = call.loaded, call.request
    size = len(waiting)
    if size > 1 and (_draws_alone(loaded, request) or not picks_batches(loaded.pipeline.device)):
        size = 1
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
            call.steps.watcher.add_note(
                "Memory was short: decoded in tiles, which may differ a little."
            )
        else:
            raise OutOfMemory(
                f"A picture of {request.width} x {request.height} px does not fit into the memory "
                f"of this machine with {loaded.spec.title}. Choose a smaller size."
            )


def _goes_side_by_side(loaded: LoadedModel, request: GenerationRequest) -> bool:
    """Whether the pictures of a request are calls of their own that go at once."""
    if request.exact or request.num_images == 1 or not is_joinable(loaded):
        return False
    return not picks_batches(loaded.pipeline.device)


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
    images: Mapping[str, Image.Image]
    refiner: LoadedModel | None
    embeddings: Mapping[str, torch.Tensor]
    steps: RequestSteps
    shared: LoadedModel | None
    """The same model for a drawing in company."""

    def try_batch(self, batch: list[int], *, in_tiles: bool = False) -> list[Drawn] | None:
        """Draw a batch; None if it does not fit into the memory."""
        try:
            if self.shared is not None and not in_tiles:
                with decoding(self.shared.pipeline.components.get("vae"), in_tiles=False):
                    return self._draw_batch(self.shared, batch)
            pipeline = self.loaded.pipeline
            wrapped = seamless(pipeline, self.request.tiling, in_tiles=in_tiles)
            with decoding(pipeline.components.get("vae"), in_tiles), wrapped:
                return self._draw_batch(self.loaded, batch)
        except RuntimeError as exc:
            if not is_out_of_memory(exc):
                raise
        # Only here, with the exception gone, are the tensors of the failed call free.
        release_memory()
        return None

    def _draw_batch(self, loaded: LoadedModel, indices: list[int]) -> list[Drawn]:
        seeds = [(self.request.seed + index) % (MAX_SEED + 1) for index in indices]
        with self.steps.of(indices) as steps:
            batch = Batch(
                loaded=loaded,
                request=self.request,
                scheduler_spec=self.scheduler_spec,
                seeds=seeds,
                images=self.images,
                steps=steps,
                refiner=self.refiner,
                embeddings=self.embeddings,
            )
            results = family_of(loaded.spec.backend).draw_batch(batch)
        for note in chain.from_iterable(result.notes for result in results):
            self.steps.watcher.add_note(note)
        return [
            Drawn(index, _to_image(result), result.attachments)
            for index, result in zip(indices, results, strict=True)
        ]


def _to_image(result: Result) -> Image.Image | Flaw:
    """Turn pixels in [0, 1] into a picture, exactly as diffusers does."""
    flaw = find_flaw(result.pixels, result.is_flagged)
    return flaw or Image.fromarray((result.pixels * 255).round().astype("uint8"))
