"""Counts the steps of a request, shows how its pictures form, and stops it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch

from pipelines.previews import estimate_clean, preview_jpeg
from pipelines.schedulers import watch_steps
from studio.errors import Cancelled

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

    from pipelines.previews import PreviewMap

PREVIEW_INTERVAL_S = 0.2


class Watcher(Protocol):
    """Who follows a request while it is drawn."""

    def is_cancelled(self) -> bool:
        """Asked before every step."""

    def is_watched(self) -> bool:
        """Whether a preview would be seen."""

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


@dataclass(slots=True, eq=False)
class RequestSteps:
    """The steps of all pictures of one request.

    Several batches may be under way at once. What the watcher hears is the course of the first
    of them, and how many pictures keep pace with it.
    """

    watcher: Watcher
    preview_map: PreviewMap | None
    aspect: float
    """Width over height."""
    under_way: list[BatchSteps] = field(default_factory=list)
    last_preview: float = -math.inf

    @contextmanager
    def of(self, indices: list[int]) -> Iterator[BatchSteps]:
        """The steps of one batch, inside the block."""
        steps = BatchSteps(self, indices)
        self.under_way.append(steps)
        self.under_way.sort(key=lambda one: one.indices)
        try:
            yield steps
        finally:
            self.under_way.remove(steps)

    def count_beside(self, first: BatchSteps) -> int:
        """Pictures at the step of `first`, or the one before that they are about to make."""
        return sum(
            len(one.indices) for one in self.under_way if one is first or one.step >= first.step - 1
        )


@dataclass(slots=True, eq=False)
class BatchSteps:
    """The steps of one batch."""

    request: RequestSteps
    indices: list[int]
    total_steps: int = 0
    step: int = 0

    def begin(self, total_steps: int) -> None:
        """Say how many steps there will be, over all stages of the batch."""
        self.total_steps = total_steps
        self._report(None)

    def watch(self, scheduler: SchedulerMixin) -> None:
        """Count each step of a scheduler, and show previews of what it is at."""

        def on_step(output: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor) -> None:
            self.advance(self._preview(scheduler, output, timestep, sample))

        watch_steps(scheduler, on_step)

    def stop_if_cancelled(self) -> None:
        """Raise Cancelled if that is wanted; every step asks by itself."""
        if self.request.watcher.is_cancelled():
            raise Cancelled("Stopped.")

    def wait(self, text: str) -> None:
        """Show why no step is made yet."""
        self.request.watcher.on_message(text)

    def advance(self, preview: bytes | None = None) -> None:
        """Count one step; `preview` is a JPEG."""
        self.step += 1
        self._report(preview)

    @property
    def _is_first(self) -> bool:
        return self.request.under_way[0] is self

    def _preview(
        self,
        scheduler: SchedulerMixin,
        output: torch.Tensor,
        timestep: torch.Tensor,
        sample: torch.Tensor,
    ) -> bytes | None:
        """A JPEG of what the model expects now; None if the last one is fresh, or none can be."""
        request, now = self.request, time.monotonic()
        is_fresh = now - request.last_preview < PREVIEW_INTERVAL_S
        if request.preview_map is None or is_fresh or not self._is_first:
            return None
        if not request.watcher.is_watched():
            return None
        request.last_preview = now
        clean = estimate_clean(scheduler, output, timestep, sample)
        if clean is None or not request.preview_map.reads(clean[0]):
            return None
        return preview_jpeg(clean[0], request.preview_map, request.aspect)

    def _report(self, preview: bytes | None) -> None:
        self.stop_if_cancelled()
        if self._is_first:
            beside = self.request.count_beside(self)
            self.request.watcher.on_step(
                self.step, self.total_steps, self.indices[0], preview, beside
            )
