"""Jobs whose denoising steps are made together, against the same jobs alone: real tiny pipelines.

What is joined may differ in the last bits: pictures are compared as PSNR, 40 dB at least.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from tiny_house import RecordingWatcher, tiny_catalogue, tiny_manager, tiny_request
from torch import nn

from pipelines.company import Company
from pipelines.drawing import draw
from pipelines.knees import Knees
from pipelines.manager import PipelineManager
from pipelines.stepping import Course, Stepper
from studio.errors import Cancelled
from studio.request import GenerationRequest

LEAST_DB = 40.0


@pytest.fixture(scope="module")
def manager() -> PipelineManager:
    return tiny_manager()


class Generous(Knees):
    """Always lets so many rows go at once."""

    def __init__(self, most: int = 64) -> None:
        super().__init__()
        self.most = most

    def most_rows(self, kind: str, least: int) -> int:
        return max(self.most, least)

    def limit(self, kind: str, rows: int) -> None:
        self.most = rows // 2


class Desk:
    """A stepper over one thread, which remembers how many rows its calls had."""

    def __init__(self, manager: PipelineManager, most: int = 64) -> None:
        self.manager = manager
        self.calls: list[tuple[str, int]] = []
        self.before_call: Callable[[int], None] = lambda rows: None
        self.stepper = Stepper(self._denoise, Generous(most))
        self.company = Company(self.stepper)

    def _denoise(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        sample = args[0] if args else kwargs["sample"]
        self.calls.append(("x".join(map(str, sample.shape[2:])), len(sample)))
        self.before_call(len(sample))
        return module(*args, **kwargs)

    @property
    def rows(self) -> list[int]:
        return [rows for _, rows in self.calls]

    def begin(
        self,
        request: GenerationRequest,
        watcher: RecordingWatcher | None = None,
        owner: str = "anna",
    ) -> Course:
        work = functools.partial(self._pictures, request, watcher or RecordingWatcher())
        return self.stepper.spawn(owner, work, is_exact=request.exact)

    def _pictures(self, request: GenerationRequest, watcher: RecordingWatcher) -> list[np.ndarray]:
        spec = tiny_catalogue().get_scheduler(request.scheduler)
        with self.manager.borrow(request.model) as loaded:
            indices = range(request.num_images)
            drawn = draw(loaded, spec, request, indices, watcher, company=self.company)
            return [np.asarray(one.image) for one in drawn]

    def finish(self, *courses: Course) -> list[list[np.ndarray]]:
        with torch.no_grad():
            while len(self.stepper):
                self.stepper.step()
        for course in courses:
            if course.error is not None:
                raise course.error
        return [course.value for course in courses]

    def step(self, times: int = 1) -> None:
        with torch.no_grad():
            for _ in range(times):
                self.stepper.step()


@pytest.fixture
def desk(manager: PipelineManager) -> Iterator[Desk]:
    desk = Desk(manager)
    yield desk
    desk.stepper.close(Cancelled("The test is over."))


def alone(manager: PipelineManager, request: GenerationRequest) -> list[np.ndarray]:
    """The pictures as the plain pipeline draws them, one after the other."""
    spec = tiny_catalogue().get_scheduler(request.scheduler)
    with manager.borrow(request.model) as loaded:
        drawn = draw(loaded, spec, request, range(request.num_images), RecordingWatcher())
        return [np.asarray(one.image) for one in drawn]


def psnr_db(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def assert_alike(drawn: list[np.ndarray], expected: list[np.ndarray]) -> None:
    pairs = list(zip(drawn, expected, strict=True))
    assert pairs
    assert min(psnr_db(one, other) for one, other in pairs) >= LEAST_DB


def test_a_job_alone_has_the_bits_of_the_plain_pipeline(desk: Desk) -> None:
    request = tiny_request(scheduler="euler_a")
    [drawn] = desk.finish(desk.begin(request))
    np.testing.assert_array_equal(drawn, alone(desk.manager, request))
    assert desk.rows == [2] * 4


def test_jobs_of_all_kinds_share_their_steps(desk: Desk) -> None:
    requests = [
        tiny_request(prompt="a red fox", seed=1),
        tiny_request(prompt="a blue boat", negative_prompt="fog", seed=2, scheduler="euler_a"),
        tiny_request(prompt="a house", seed=3, scheduler="ddim", num_inference_steps=7),
        tiny_request(prompt="a tree", seed=4, scheduler="dpmpp_2m", guidance_scale=9.0),
        tiny_request(prompt="a hill", seed=5, scheduler="heun", num_inference_steps=3),
    ]
    drawn = desk.finish(*map(desk.begin, requests))
    for pictures, request in zip(drawn, requests, strict=True):
        assert_alike(pictures, alone(desk.manager, request))
    assert desk.rows == [10] * 4 + [4, 2, 2]


def test_guided_and_unguided_jobs_share_their_steps(desk: Desk) -> None:
    requests = [tiny_request(), tiny_request(guidance_scale=1.0, seed=9)]
    drawn = desk.finish(*map(desk.begin, requests))
    for pictures, request in zip(drawn, requests, strict=True):
        assert_alike(pictures, alone(desk.manager, request))
    assert desk.rows == [3] * 4


def test_a_late_job_joins_and_an_early_one_leaves(desk: Desk) -> None:
    long, short = tiny_request(num_inference_steps=8), tiny_request(seed=3, num_inference_steps=3)
    first = desk.begin(long)
    desk.step(2)
    late = desk.begin(short)
    drawn = desk.finish(first, late)
    assert desk.rows == [2, 2, 4, 4, 4, 2, 2, 2]
    assert_alike(drawn[0], alone(desk.manager, long))
    assert_alike(drawn[1], alone(desk.manager, short))


def test_a_job_that_is_stopped_leaves_the_others_alone(desk: Desk) -> None:
    other = tiny_request(seed=3)
    stopped = desk.begin(tiny_request(), RecordingWatcher(cancel_at=2))
    kept = desk.begin(other)
    [drawn] = desk.finish(kept)
    assert isinstance(stopped.error, Cancelled)
    assert desk.rows == [4, 4, 4, 2]
    assert_alike(drawn, alone(desk.manager, other))


def test_a_job_that_raises_between_steps_takes_nobody_down(desk: Desk) -> None:
    class Broken(RecordingWatcher):
        def on_step(self, *told: Any) -> None:
            super().on_step(*told)
            if len(self.steps) == 3:
                raise ZeroDivisionError

    failed, kept = desk.begin(tiny_request(), Broken()), desk.begin(tiny_request(seed=3))
    [drawn] = desk.finish(kept)
    assert isinstance(failed.error, ZeroDivisionError)
    assert_alike(drawn, alone(desk.manager, tiny_request(seed=3)))


def test_a_joined_call_that_fails_costs_only_the_guilty_job(desk: Desk) -> None:
    poisoned = iter([False] * 2 + [True] * 2 + [False] * 20)

    def fail(rows: int) -> None:
        """The third call, and of its two halves the first."""
        if next(poisoned):
            raise ZeroDivisionError

    desk.before_call = fail
    guilty, kept = desk.begin(tiny_request()), desk.begin(tiny_request(seed=3))
    [drawn] = desk.finish(kept)
    assert isinstance(guilty.error, ZeroDivisionError)
    assert desk.rows == [4, 4, 4, 2, 2, 2]
    assert_alike(drawn, alone(desk.manager, tiny_request(seed=3)))


def test_where_memory_is_short_fewer_rows_are_joined(manager: PipelineManager) -> None:
    def fail(rows: int) -> None:
        if rows > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    desk = Desk(manager)
    desk.before_call = fail
    requests = [tiny_request(seed=seed) for seed in range(4)]
    drawn = desk.finish(*map(desk.begin, requests))
    assert desk.rows[:5] == [8, 2, 2, 2, 2]
    assert {*desk.rows[5:]} == {4}
    for pictures, request in zip(drawn, requests, strict=True):
        assert_alike(pictures, alone(manager, request))


def test_an_exact_job_has_the_bits_of_the_plain_pipeline_in_any_company(desk: Desk) -> None:
    exact = tiny_request(exact=True, num_images=2)
    others = [desk.begin(tiny_request(seed=seed)) for seed in range(2)]
    [drawn] = desk.finish(desk.begin(exact))
    np.testing.assert_array_equal(drawn, alone(desk.manager, exact))
    assert all(other.is_over and other.error is None for other in others)


def test_the_pictures_of_one_request_go_side_by_side(desk: Desk) -> None:
    request, watcher = tiny_request(num_images=3), RecordingWatcher()
    [drawn] = desk.finish(desk.begin(request, watcher))
    assert_alike(drawn, alone(desk.manager, request))
    assert desk.rows == [6] * 4
    assert watcher.steps[:4] == [(step, 4, 0) for step in range(4)]
    assert watcher.steps[-1] == (4, 4, 2)
    assert max(watcher.batches) == 3


def test_sizes_and_models_take_turns(desk: Desk) -> None:
    courses = [
        desk.begin(tiny_request(num_inference_steps=3)),
        desk.begin(tiny_request(num_inference_steps=3, width=96)),
        desk.begin(tiny_request(num_inference_steps=3, model="third", width=128)),
    ]
    desk.finish(*courses)
    sizes = [size for size, _ in desk.calls]
    assert sizes == sizes[:3] * 3
    assert len({*sizes[:3]}) == 3


def test_a_visitor_with_many_jobs_leaves_half_to_one_with_a_single_job(
    manager: PipelineManager,
) -> None:
    desk = Desk(manager, most=4)
    crowd = [desk.begin(tiny_request(seed=seed), owner="anna") for seed in range(6)]
    desk.step()
    late = desk.begin(tiny_request(seed=50), owner="bert")
    steps = next(i for i in itertools.count(1) if desk.step() or late.is_over)
    assert steps <= 5
    assert sum(course.is_over for course in crowd) <= 2
    desk.finish(*crowd)


@pytest.mark.parametrize("tiling", ["x", "both"])
def test_seamless_and_plain_jobs_do_not_touch_each_other(desk: Desk, tiling: str) -> None:
    requests = [tiny_request(), tiny_request(tiling=tiling), tiny_request(seed=8)]
    drawn = desk.finish(*map(desk.begin, requests))
    for pictures, request in zip(drawn, requests, strict=True):
        assert_alike(pictures, alone(desk.manager, request))
    assert sorted(desk.rows) == [2] * 4 + [4] * 4


def test_closing_ends_every_course(desk: Desk) -> None:
    courses = [desk.begin(tiny_request(num_images=2)), desk.begin(tiny_request(seed=3))]
    desk.step(2)
    desk.stepper.close(Cancelled("Croquis is shutting down."))
    assert len(desk.stepper) == 0
    assert all(isinstance(course.error, Cancelled) for course in courses)
    [drawn] = desk.finish(desk.begin(tiny_request()))
    np.testing.assert_array_equal(drawn, alone(desk.manager, tiny_request()))


def test_a_course_that_pauses_lets_the_others_go_on() -> None:
    stepper, seen = Stepper(), []

    def work(name: str) -> None:
        for index in range(2):
            seen.append(f"{name}{index}")
            stepper.pause()

    stepper.spawn("anna", functools.partial(work, "a"))
    stepper.spawn("bert", functools.partial(work, "b"))
    while len(stepper):
        stepper.step()
    assert seen == ["a0", "b0", "a1", "b1"]


def test_no_course_leaves_its_gradient_mode_behind() -> None:
    stepper = Stepper()

    def work(pauses: int) -> None:
        with torch.no_grad():
            for _ in range(pauses):
                stepper.pause()

    assert torch.is_grad_enabled()
    for pauses in (1, 3, 2):  # the first to come is not the last to go
        stepper.spawn("anna", functools.partial(work, pauses))
    while len(stepper):
        stepper.step()
        assert torch.is_grad_enabled()
