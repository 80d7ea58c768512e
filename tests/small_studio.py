"""A real studio on a temporary folder, and an engine that scribbles instead of drawing.

Run as a program it is the victim of test_studio.py: a studio that works until it is killed.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from PIL import Image

from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.errors import QueueFull
from studio.jobs import Job
from studio.request import GenerationRequest
from studio.settings import Settings
from studio.studio import Studio

ANNA, BERT, CLEO = "a" * 32, "b" * 32, "c" * 32


def make_request(**changes: object) -> GenerationRequest:
    """A small valid request for the built-in model."""
    request = GenerationRequest(
        prompt="a red chair",
        model="builtin",
        scheduler="euler",
        num_inference_steps=4,
        guidance_scale=4.0,
        width=64,
        height=64,
        seed=7,
    )
    return replace(request, **changes)


def make_catalogue(settings: Settings | None = None) -> Catalogue:
    """The real catalogue."""
    return Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings or Settings())


def make_studio(folder: Path, **changes: object) -> Studio:
    """A studio on a folder that is not started yet."""
    settings = Settings(data_dir=folder, **changes)
    return Studio(settings, make_catalogue(settings))


@contextmanager
def open_studio(folder: Path, **changes: object) -> Iterator[Studio]:
    """A started studio, closed at the end."""
    studio = make_studio(folder, **changes)
    studio.start()
    try:
        yield studio
    finally:
        studio.close()


def scribble(request: GenerationRequest, index: int) -> Image.Image:
    """A picture that depends on the seed alone, as a drawn one does."""
    side = request.upscale
    noise = random.Random(request.seed + index).randbytes(
        request.width * side * request.height * side * 3
    )
    return Image.frombytes("RGB", (request.width * side, request.height * side), noise)


def draw(studio: Studio, job: Job, step_s: float = 0.0) -> None:
    """Take a job through all it has, as the engine does."""
    request = job.request
    kept = studio.kept_indices(job.id)
    for index in range(request.num_images):
        if index in kept:
            continue
        for step in range(request.num_inference_steps + 1):
            if studio.is_cancelled(job.id):
                studio.cancelled(job.id)
                return
            time.sleep(step_s)
            studio.report_step(job.id, step, request.num_inference_steps, index, b"jpeg")
        studio.keep(job.id, index, scribble(request, index), "local@0123456789", {"diffusers": "0"})
    studio.finish(job.id)


class Scribbler(threading.Thread):
    """Draws whatever is taken until it is told to stop; remembers the order."""

    def __init__(self, studio: Studio, step_s: float = 0.0) -> None:
        super().__init__(daemon=True)
        self.studio = studio
        self.step_s = step_s
        self.taken: list[Job] = []
        self.closing = threading.Event()

    def run(self) -> None:
        while not self.closing.is_set():
            job = self.studio.take(0.05)
            if job is not None:
                self.taken.append(job)
                draw(self.studio, job, self.step_s)

    def __enter__(self) -> Scribbler:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.join()


def wait_for_end(studio: Studio, job: Job, timeout_s: float = 120.0) -> Job:
    """Watch a job as the page does, until it is finished."""
    deadline = time.monotonic() + timeout_s
    progress = studio.progress(job.id, job.owner)
    while progress.state.is_active:
        left = deadline - time.monotonic()
        assert left > 0, f"still {progress.state}"
        progress = studio.wait_for_change(job.id, job.owner, progress.version, left)
    return studio.job(job.id, job.owner)


def work_until_killed(folder: Path) -> None:
    """Accept, draw and stop jobs without end; prints each accepted id once it is safe."""
    studio = make_studio(folder)
    studio.start()
    Scribbler(studio, step_s=0.002).start()
    dice = random.Random()
    while True:
        owner = dice.choice((ANNA, BERT, CLEO))
        request = make_request(num_images=dice.randint(1, 3), num_inference_steps=2, seed=-1)
        try:
            job = studio.submit(request, owner)
        except QueueFull:
            time.sleep(0.01)
            continue
        sys.stdout.write(f"{owner} {job.id}\n")
        sys.stdout.flush()
        time.sleep(dice.random() * 0.02)
        if dice.random() < 0.3:
            time.sleep(dice.random() * 0.02)
            studio.cancel(job.id, owner)


if __name__ == "__main__":
    work_until_killed(Path(sys.argv[1]))
