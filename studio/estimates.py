"""How long a job will take, from runs that were measured on this very machine."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import delete, select

from studio.database import Database, timings_table
from studio.errors import StorageFailed
from studio.jobs import ENLARGED_BY, Enlargement, JobState
from studio.progress import Progress
from studio.request import GenerationRequest
from studio.specs import SchedulerSpec

Work = GenerationRequest | Enlargement

_ENLARGING = "enlarging"
"""Stands in a row of timings where a drawing has its model."""

_log = logging.getLogger(__name__)

_WEIGHT_OF_NEWEST = 0.3
"""Share of the newest run in the running mean: old enough to be calm, new enough to follow."""


class Size(NamedTuple):
    """What the time of a step and of a picture depends on."""

    model: str
    width: int
    height: int
    upscale: int


class Timing(NamedTuple):
    """Seconds, measured."""

    step_s: float
    """Per guided call of the model for one picture; without guidance it does half the work."""
    picture_s: float
    """Per picture, beside its steps: encoding the prompt, decoding, enlarging, keeping."""


@dataclass(slots=True)
class _Run:
    """The stop-watch of one job."""

    work: Work
    started_at: float
    is_loading: bool = False
    stepped_at: float = 0.0
    step: int = 0
    image_index: int = -1
    calls: int = 0
    """Of the model, for each picture of a batch."""
    calls_s: float = 0.0
    pictures: int = 0


class Estimates:
    """Seconds per step and per picture for each model and size; kept in the database."""

    def __init__(
        self,
        database: Database,
        schedulers: Mapping[str, SchedulerSpec],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._schedulers = schedulers
        self._clock = clock
        self._lock = threading.Lock()
        self._timings: dict[Size, Timing] = {}
        self._runs: dict[str, _Run] = {}
        self._loaded: set[str] = set()
        self._loading_since: dict[str, float] = {}

    def load(self) -> None:
        """Read what earlier runs have taught."""
        with self._database.read() as connection:
            for row in connection.execute(select(timings_table)):
                size = Size(row.model, row.width, row.height, row.upscale)
                self._timings[size] = Timing(row.step_s, row.picture_s)

    def total_s(self, work: Work) -> float | None:
        """Seconds for a whole request, the model being loaded; None until measured."""
        timing = self._timings.get(_size(work))
        if timing is None:
            return None
        if isinstance(work, Enlargement):
            return timing.picture_s
        steps_s = self._count_calls(work) * _share_of_work(work) * timing.step_s
        return work.num_images * (steps_s + timing.picture_s)

    def remaining_s(self, work: Work, progress: Progress) -> float | None:
        """Seconds that a taken job still needs, its model's loading included."""
        if isinstance(work, Enlargement):
            total_s = self.total_s(work)
            done = progress.step / max(1, progress.total_steps)
            return None if total_s is None else (1 - done) * total_s
        return self._remaining_to_draw_s(work, progress)

    def _remaining_to_draw_s(self, request: GenerationRequest, progress: Progress) -> float | None:
        timing = self._timings.get(_size(request))
        is_drawing = progress.state is JobState.RUNNING
        loading_s = 0.0 if is_drawing else self.loading_s(request.model)
        if timing is None or loading_s is None:
            return None
        calls_each = progress.total_steps if is_drawing else self._count_calls(request)
        pictures = request.num_images - progress.image_index
        calls = pictures * calls_each - progress.batch * progress.step
        steps_s = max(0, calls) * _share_of_work(request) * timing.step_s
        left = pictures - progress.part / max(1, progress.parts)
        return loading_s + steps_s + left * timing.picture_s

    def loading_s(self, model: str) -> float | None:
        """Seconds until a model is loaded; None until that has been measured once."""
        if model in self._loaded:
            return 0.0
        known = self._timings.get(_loading(model))
        if known is None:
            return None
        elapsed_s = self._clock() - self._loading_since.get(model, self._clock())
        return max(0.0, known.picture_s - elapsed_s)

    def on_model_state(self, model: str, state: str) -> None:
        """Measure how long a model loads."""
        started_at = self._loading_since.pop(model, None)
        self._loaded.discard(model)
        if state == "loading":
            self._loading_since[model] = self._clock()
        elif state == "loaded":
            self._loaded.add(model)
            if started_at is not None:
                self._learn(_loading(model), Timing(0.0, self._clock() - started_at))

    def begin(self, job_id: str, work: Work) -> None:
        """Start the stop-watch of a job that was just taken."""
        self._runs[job_id] = _Run(work, self._clock())

    def on_loading(self, job_id: str) -> None:
        """Leave the time until the next step out: it is the model's, not the picture's."""
        if run := self._runs.get(job_id):
            run.is_loading = True

    def on_step(self, job_id: str, step: int, image_index: int, batch: int = 1) -> None:
        """Note that a step of `batch` pictures is done; step 0 is their start."""
        run = self._runs.get(job_id)
        if run is None:
            return
        now = self._clock()
        if run.is_loading:
            run.started_at, run.is_loading = now, False
        if image_index == run.image_index and step > run.step:
            run.calls += (step - run.step) * batch
            run.calls_s += now - run.stepped_at
        run.step, run.image_index, run.stepped_at = step, image_index, now

    def on_picture(self, job_id: str) -> None:
        """Note that a picture is drawn."""
        if run := self._runs.get(job_id):
            run.pictures += 1

    def drop(self, job_id: str) -> None:
        """Forget a run that was not finished: it measures nothing."""
        self._runs.pop(job_id, None)

    def finish(self, job_id: str) -> None:
        """Learn from a job that is done."""
        run = self._runs.pop(job_id, None)
        if run is not None and run.calls and run.pictures:
            self._learn(_size(run.work), _measured(run, self._clock()))

    def _count_calls(self, request: GenerationRequest) -> int:
        """How often the model will be called for one picture, but for one call or two."""
        scheduler = self._schedulers.get(request.scheduler)
        steps = request.num_inference_steps * (request.start.strength if request.start else 1)
        return round(steps) * (scheduler.calls_per_step if scheduler else 1)

    def _learn(self, size: Size, newest: Timing) -> None:
        """Mix a new measurement in. Not storing it costs a restarted server only a guess."""
        with self._lock:
            known = self._timings.get(size, newest)
            mean = Timing(*(_blend(old, new) for old, new in zip(known, newest, strict=True)))
            self._timings[size] = mean
        try:
            self._store(size, mean)
        except StorageFailed:
            _log.exception("The timing of %s could not be stored", size)

    def _store(self, size: Size, timing: Timing) -> None:
        same = [timings_table.c[name] == value for name, value in size._asdict().items()]
        row = {**size._asdict(), **timing._asdict()}
        with self._database.write() as connection:
            connection.execute(delete(timings_table).where(*same))
            connection.execute(timings_table.insert().values(row))


def _loading(model: str) -> Size:
    """Where the seconds that a model takes to load are kept."""
    return Size(model, 0, 0, 0)


def _size(work: Work) -> Size:
    if isinstance(work, Enlargement):
        return Size(_ENLARGING, work.width, work.height, ENLARGED_BY)
    return Size(work.model, work.width, work.height, work.upscale)


def _blend(old: float, new: float) -> float:
    return old + _WEIGHT_OF_NEWEST * (new - old)


def _measured(run: _Run, now: float) -> Timing:
    """Split a run into the model's calls and the rest; an enlargement is one piece."""
    if isinstance(run.work, Enlargement):
        return Timing(0.0, now - run.started_at)
    step_s = run.calls_s / run.calls / _share_of_work(run.work)
    return Timing(step_s, (now - run.started_at - run.calls_s) / run.pictures)


def _share_of_work(request: GenerationRequest) -> float:
    """What one call of the model does; with guidance it also draws the negative prompt."""
    return 1.0 if request.guidance_scale > 1 else 0.5
