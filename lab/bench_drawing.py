"""What a picture costs through the studio, and by diffusers' own pipeline with its settings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from pipelines.device import pick_budget, pick_device
from pipelines.engine import Engine
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from pipelines.schedulers import build_scheduler
from pipelines.upscale import Upscaler
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.jobs import JobState
from studio.request import GenerationRequest
from studio.settings import Settings
from studio.studio import Studio

OWNER = "bench"
FAST = "builtin-fast"
"""Row of the catalogue that draws in four steps."""
PROMPT = "a small red house beside a blue lake"


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds from `submit` on."""

    first_preview_s: float | None
    total_s: float


class Bench:
    """A studio with its engine, and the bare pipeline beside it, in one process."""

    def __init__(self, settings: Settings) -> None:
        catalogue = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings)
        loader = Loader(settings)
        self.device = loader.device
        self._studio = Studio(settings, catalogue)
        self._manager = PipelineManager(
            catalogue, loader, pick_budget(pick_device(settings), settings)
        )
        self._engine = Engine(self._studio, self._manager, settings)
        request = catalogue.default_request(settings.model, PROMPT)
        self.request = replace(request, seed=1, upscale=1, num_inference_steps=20)
        fast = catalogue.default_request(FAST, PROMPT)
        self.fast_request = replace(fast, seed=1, upscale=1)
        spec = catalogue.get_model(settings.model)
        checkpoint = loader.find(spec, print)
        bare = loader.load(checkpoint)
        self._pipeline = bare.pipeline
        self._pipeline.scheduler = build_scheduler(
            catalogue.get_scheduler(self.request.scheduler), bare.scheduler_config
        )
        self._pipeline.set_progress_bar_config(disable=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the engine inside the block."""
        self._studio.start()
        self._engine.start()
        try:
            yield
        finally:
            self._engine.close()
            self._studio.close()

    def time_request(self, request: GenerationRequest | None = None) -> Timed:
        """Submit a request and watch it to its end."""
        started = time.perf_counter()
        job = self._studio.submit(request or self.request, OWNER)
        first_preview_s, version = None, -1
        while True:
            progress = self._studio.wait_for_change(job.id, OWNER, version, 60)
            version, now = progress.version, time.perf_counter() - started
            if progress.preview and first_preview_s is None:
                first_preview_s = now
            if not progress.state.is_active:
                break
        if progress.state is not JobState.DONE:
            raise RuntimeError(self._studio.job(job.id, OWNER).error)
        return Timed(first_preview_s, now)

    def time_pipeline(self) -> float:
        """Call diffusers' pipeline with the same settings."""
        request = self.request
        started = time.perf_counter()
        self._pipeline(
            request.prompt,
            negative_prompt=request.negative_prompt,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            width=request.width,
            height=request.height,
            generator=torch.Generator("cpu").manual_seed(request.seed),
        )
        return time.perf_counter() - started

    def time_fast(self, rounds: int) -> list[float]:
        """Submit the four-step variant's request; the first, which loads it, does not count."""
        return [self.time_request(self.fast_request).total_s for _ in range(rounds + 1)][1:]

    def time_enlarging(self, rounds: int) -> list[float]:
        """Enlarge an empty picture of the request's size."""
        upscaler = Upscaler(self.device)
        image = Image.new("RGB", (self.request.width, self.request.height), "teal")
        seconds = []
        for _ in range(rounds + 1):
            started = time.perf_counter()
            upscaler.enlarge(image)
            seconds.append(time.perf_counter() - started)
        return seconds[1:]


def make_bench(data_dir: Path, settings: Settings) -> Bench:
    """A bench whose pictures go to `data_dir`."""
    return Bench(replace(settings, data_dir=data_dir, database_url=""))
