"""The real studio with its real engine, without a page, and visitors who draw in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from pipelines.acceleration import pick_denoise
from pipelines.device import pick_budget, pick_device
from pipelines.engine import Engine
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from pipelines.parking import pick_parking
from pipelines.stepping import Denoise
from studio.catalogue import Catalogue
from studio.jobs import JobState
from studio.request import GenerationRequest
from studio.settings import Settings
from studio.studio import Studio

OWNER = "bench"
LONGEST_S = 600.0


@dataclass(frozen=True, slots=True)
class Watched:
    """Seconds from `submit` on."""

    first_preview_s: float | None
    total_s: float


class _Studio(Studio):
    """One whose visitors can look away."""

    has_viewers = True

    def is_watched(self, job_id: str) -> bool:
        return self.has_viewers and super().is_watched(job_id)


class House:
    """A studio and its engine; time is taken as a visitor sees it: from `submit` to the end.

    Raises, in every method that draws:
        RuntimeError: a job did not end with its pictures.
    """

    def __init__(self, studio: _Studio, manager: PipelineManager) -> None:
        self.studio = studio
        self.manager = manager

    def watch(self, request: GenerationRequest, owner: str = OWNER) -> Watched:
        """Submit a request and follow it as the page does."""
        started = time.perf_counter()
        job_id = self.studio.submit(request, owner).id
        first_preview_s, version = None, -1
        while True:
            progress = self.studio.wait_for_change(job_id, owner, version, LONGEST_S)
            version, now = progress.version, time.perf_counter() - started
            if progress.preview and first_preview_s is None:
                first_preview_s = now
            if not progress.state.is_active:
                break
        if progress.state is not JobState.DONE:
            raise RuntimeError(f"A picture of the benchmark was not drawn: {progress.message}")
        return Watched(first_preview_s, now)

    def draw(self, request: GenerationRequest, owner: str = OWNER) -> float:
        """Seconds until the pictures of a request are kept."""
        return self.watch(request, owner).total_s

    def draw_unseen(self, request: GenerationRequest) -> float:
        """The same, while nobody wants to see it form."""
        self.studio.has_viewers = False
        try:
            return self.draw(request)
        finally:
            self.studio.has_viewers = True

    def pixels(self, request: GenerationRequest, owner: str = OWNER) -> np.ndarray:
        """The first picture of a request, as it was kept: (height, width, 3) uint8."""
        self.draw(request, owner)
        with Image.open(self.studio.pictures(owner, limit=1)[0].path) as picture:
            return np.array(picture.convert("RGB"))

    def empty_queue(self, owner: str) -> None:
        """Cancel all jobs of an owner and wait until none is active."""
        for job in self.studio.jobs(owner, active_only=True, limit=None):
            self.studio.cancel(job.id, owner)
        while self.studio.jobs(owner, active_only=True, limit=1):
            time.sleep(0.005)


@contextmanager
def open_house(
    settings: Settings,
    catalogue: Catalogue,
    denoise: Denoise | None = None,
) -> Iterator[House]:
    """A house in a folder of its own, working inside the block.

    Args:
        denoise: makes the calls of the denoisers in the place of what the settings choose.
    """
    with TemporaryDirectory(prefix="croquis-bench-") as folder:
        settings = replace(
            settings,
            data_dir=Path(folder),
            database_url="",
            queue_limit=10**4,
            owner_queue_limit=10**4,
        )
        studio = _Studio(settings, catalogue)
        budget = pick_budget(pick_device(settings), settings)
        parking = pick_parking(pick_device(settings), settings)
        manager = PipelineManager(
            catalogue, Loader(settings), budget, studio.set_model_state, parking
        )
        denoise = denoise or pick_denoise(settings, pick_device(settings))
        engine = Engine(studio, manager, settings, denoise=denoise)
        studio.start()
        engine.start()
        try:
            yield House(studio, manager)
        finally:
            engine.close()
            studio.close()
