"""Draws sketches beside the jobs, each in a course of its own, and drops what is stale."""

from __future__ import annotations

import functools
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from pipelines.safety import Flaw, nothing_left
from pipelines.upscale import FACTOR, Upscaler
from studio.errors import Cancelled

if TYPE_CHECKING:
    from pipelines.manager import PipelineManager
    from pipelines.running import Draw
    from pipelines.stepping import Course, Stepper
    from studio.sketches import Sketch
    from studio.studio import Studio

BESIDE_JOBS = 1
"""Sketches at once while jobs are drawn: those are kept, and come first."""
JPEG_QUALITY = 90


class Sketcher:
    """Takes sketches from the studio and draws them, for the engine's thread.

    Args:
        draw: draws the pictures of a request.
        is_closing: set when the server ends.
    """

    def __init__(
        self,
        studio: Studio,
        manager: PipelineManager,
        stepper: Stepper,
        draw: Draw,
        upscaler: Upscaler,
        is_closing: threading.Event,
    ) -> None:
        self._studio = studio
        self._manager = manager
        self._stepper = stepper
        self._draw = draw
        self._upscaler = upscaler
        self._is_closing = is_closing
        self._under_way: list[Course] = []

    def let_in(self, *, beside_jobs: bool) -> None:
        """Begin the sketches that may be drawn now; to be called between steps. It never waits."""
        self._under_way = [course for course in self._under_way if not course.is_over]
        while not beside_jobs or len(self._under_way) < BESIDE_JOBS:
            sketch = self._studio.sketches.take(self._fits)
            if sketch is None:
                return
            work = functools.partial(self._run, sketch)
            self._under_way.append(self._stepper.spawn(sketch.owner, work))

    def _fits(self, sketch: Sketch) -> bool:
        """Whether its model has room beside those in use."""
        return self._manager.fits(sketch.request.model)

    def _run(self, sketch: Sketch) -> None:
        """Draw one to its end. Whatever it raises ends the sketch, not the engine."""
        sketches = self._studio.sketches
        is_cancelled = functools.partial(self._is_dropped, sketch)
        try:
            picture = self._sketched(sketch, _SketchWatcher(is_cancelled, self._stepper.pause))
        except Exception as exc:
            sketches.fail(sketch, exc)
        else:
            sketches.deliver(sketch, as_jpeg(picture))

    def _sketched(self, sketch: Sketch, watcher: _SketchWatcher) -> Image.Image:
        request = sketch.request
        scheduler_spec = self._studio.catalogue.get_scheduler(request.scheduler)
        with self._manager.borrow(request.model, watcher.on_message) as loaded:
            [drawn] = self._draw(loaded, scheduler_spec, request, [0], watcher)
        if isinstance(drawn.image, Flaw):
            raise nothing_left([drawn.image])
        if request.upscale != FACTOR:
            return drawn.image
        return self._upscaler.enlarge(drawn.image, request.tiling, watcher.on_tile)

    def _is_dropped(self, sketch: Sketch) -> bool:
        return self._is_closing.is_set() or self._studio.sketches.is_stale(sketch)


@dataclass(frozen=True, slots=True)
class _SketchWatcher:
    """Stops a sketch that is stale; nobody watches it form."""

    is_cancelled: Callable[[], bool]
    pause: Callable[[], None]
    """Lets others make a step."""

    def is_watched(self) -> bool:
        return False

    def on_message(self, text: str) -> None:
        self._stop_if_cancelled()

    def on_step(
        self, step: int, total_steps: int, image_index: int, preview: bytes | None, batch: int
    ) -> None:
        pass

    def on_tile(self, done: int, total: int) -> None:
        """Told before each part that is enlarged."""
        self._stop_if_cancelled()
        if done < total:
            self.pause()

    def add_note(self, text: str) -> None:
        pass

    def _stop_if_cancelled(self) -> None:
        if self.is_cancelled():
            raise Cancelled("Stopped.")


def as_jpeg(picture: Image.Image) -> bytes:
    """Encode a picture that is only looked at."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
