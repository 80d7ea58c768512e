"""Estimates: seconds come from measured runs only, and outlive the server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from small_studio import make_catalogue, make_request

from studio.database import Database
from studio.estimates import Estimates
from studio.jobs import JobState
from studio.progress import Progress
from studio.request import GenerationRequest

SCHEDULERS = make_catalogue().schedulers


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'croquis.db'}")
    yield database
    database.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def estimates(database: Database, clock: Clock) -> Estimates:
    return Estimates(database, SCHEDULERS, clock)


def run(estimates: Estimates, clock: Clock, request: GenerationRequest, step_s: float) -> None:
    """A job whose pictures take their steps and one second more each."""
    estimates.begin("j", request)
    calls = request.num_inference_steps * SCHEDULERS[request.scheduler].calls_per_step
    for index in range(request.num_images):
        estimates.on_step("j", 0, index)
        for step in range(1, calls + 1):
            clock.now += step_s
            estimates.on_step("j", step, index)
        clock.now += 1.0
        estimates.on_picture("j")
    estimates.finish("j")


def at(request: GenerationRequest, step: int, index: int) -> Progress:
    return Progress(
        job_id="j",
        state=JobState.RUNNING,
        step=step,
        total_steps=request.num_inference_steps,
        image_index=index,
        num_images=request.num_images,
    )


def test_nothing_is_promised_before_a_run(estimates: Estimates) -> None:
    assert estimates.total_s(make_request()) is None
    assert estimates.remaining_s(make_request(), at(make_request(), 1, 0)) is None


def test_a_run_teaches_steps_and_pictures(estimates: Estimates, clock: Clock) -> None:
    run(estimates, clock, make_request(num_images=2), step_s=0.5)
    assert estimates.total_s(make_request()) == pytest.approx(4 * 0.5 + 1.0)
    request = make_request(num_images=3, num_inference_steps=10)
    assert estimates.total_s(request) == pytest.approx(3 * (10 * 0.5 + 1.0))
    assert estimates.remaining_s(request, at(request, 4, 1)) == pytest.approx(16 * 0.5 + 2.0)


def test_another_size_is_another_measure(estimates: Estimates, clock: Clock) -> None:
    run(estimates, clock, make_request(), step_s=0.5)
    assert estimates.total_s(make_request(width=128)) is None
    assert estimates.total_s(make_request(upscale=4)) is None


def test_newer_runs_weigh_in(estimates: Estimates, clock: Clock) -> None:
    run(estimates, clock, make_request(), step_s=1.0)
    for _ in range(20):
        run(estimates, clock, make_request(), step_s=0.1)
    assert estimates.total_s(make_request()) == pytest.approx(1.4, rel=0.01)


def test_loading_is_no_part_of_the_picture(estimates: Estimates, clock: Clock) -> None:
    estimates.begin("j", make_request())
    estimates.on_loading("j")
    clock.now += 60
    for step in range(5):
        clock.now += 0.5
        estimates.on_step("j", step, 0)
    estimates.on_picture("j")
    estimates.finish("j")
    assert estimates.total_s(make_request()) == pytest.approx(2.0)


def test_loading_is_measured_for_itself(estimates: Estimates, clock: Clock) -> None:
    run(estimates, clock, make_request(), step_s=0.5)
    waiting = Progress(job_id="j", state=JobState.LOADING)
    assert estimates.remaining_s(make_request(), waiting) is None
    estimates.on_model_state("builtin", "loading")
    clock.now += 8
    estimates.on_model_state("builtin", "loaded")
    assert estimates.remaining_s(make_request(), waiting) == pytest.approx(3.0)
    estimates.on_model_state("builtin", "unloaded")
    estimates.on_model_state("builtin", "loading")
    clock.now += 5
    assert estimates.remaining_s(make_request(), waiting) == pytest.approx(3.0 + 3.0)


def test_pictures_of_one_batch_share_their_steps(estimates: Estimates, clock: Clock) -> None:
    request = make_request(num_images=6)
    estimates.begin("j", request)
    for index, batch in ((0, 4), (4, 2)):
        estimates.on_step("j", 0, index, batch)
        for step in range(1, 5):
            clock.now += 0.1 * batch
            estimates.on_step("j", step, index, batch)
        for _ in range(batch):
            clock.now += 1.0
            estimates.on_picture("j")
    estimates.finish("j")
    assert estimates.total_s(request) == pytest.approx(6 * (4 * 0.1 + 1.0))
    first = replace(at(request, 1, 0), batch=4)
    assert estimates.remaining_s(request, first) == pytest.approx((3 * 4 + 4 * 2) * 0.1 + 6.0)
    second = replace(at(request, 3, 4), batch=2)
    assert estimates.remaining_s(request, second) == pytest.approx(2 * 0.1 + 2.0)


@pytest.mark.parametrize(("scheduler", "calls"), [("euler", 1), ("heun", 2), ("kdpm2", 2)])
@pytest.mark.parametrize(("guidance_scale", "share"), [(4.0, 1.0), (1.0, 0.5)])
def test_one_run_foretells_other_schedulers_and_guidances(
    estimates: Estimates,
    clock: Clock,
    scheduler: str,
    calls: int,
    guidance_scale: float,
    share: float,
) -> None:
    request = make_request(scheduler=scheduler, guidance_scale=guidance_scale)
    run(estimates, clock, request, step_s=0.5 * share)
    assert estimates.total_s(request) == pytest.approx(4 * calls * 0.5 * share + 1.0)
    assert estimates.total_s(make_request()) == pytest.approx(4 * 0.5 + 1.0)
    running = replace(at(request, 2, 0), total_steps=4 * calls)
    expected = (4 * calls - 2) * 0.5 * share + 1.0
    assert estimates.remaining_s(request, running) == pytest.approx(expected)


def test_a_run_that_was_stopped_teaches_nothing(estimates: Estimates, clock: Clock) -> None:
    estimates.begin("j", make_request())
    estimates.on_step("j", 1, 0)
    clock.now += 1
    estimates.on_step("j", 2, 0)
    estimates.drop("j")
    estimates.finish("j")
    assert estimates.total_s(make_request()) is None


def test_what_was_learnt_outlives_the_server(
    estimates: Estimates, clock: Clock, database: Database
) -> None:
    run(estimates, clock, make_request(), step_s=0.5)
    reborn = Estimates(database, SCHEDULERS)
    assert reborn.total_s(make_request()) is None
    reborn.load()
    assert reborn.total_s(make_request()) == pytest.approx(3.0)
