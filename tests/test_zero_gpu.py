"""ZeroGPU: what is drawn inside the lent call is what is drawn without, and so is what is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_studio import ANNA, wait_for_end
from tiny_house import RecordingWatcher, tiny_catalogue, tiny_manager, tiny_request, tiny_settings

from app import preloaded_engine
from pipelines.drawing import draw
from pipelines.loader import LoadedModel
from pipelines.manager import PipelineManager
from pipelines.zero_gpu import LEAST_S, MOST_S, ZeroGpu
from studio.errors import Cancelled, InvalidRequest
from studio.jobs import JobState
from studio.studio import Studio

Guess = float | None
Lend = Callable[..., ZeroGpu]


class Lender:
    """Does what `spaces.GPU` does outside such a Space, and notes what was asked for."""

    def __init__(self) -> None:
        self.seconds: list[int] = []

    def __call__(self, *, duration: Callable[..., int]) -> Callable[[Any], Any]:
        def decorate(function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
            def lent(*args: Any) -> Iterator[Any]:
                self.seconds.append(duration(*args))
                return function(*args)

            return lent

        return decorate


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """For threads that begin later too: an engine of another test may have asked for more."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def manager() -> PipelineManager:
    return tiny_manager()


@pytest.fixture(scope="module")
def loaded(manager: PipelineManager) -> LoadedModel:
    with manager.borrow("mini") as model:
        return model


@pytest.fixture
def lend(manager: PipelineManager) -> Lend:
    def build(lender: Lender | None = None, guess: Guess = None) -> ZeroGpu:
        drawer = ZeroGpu(lender or Lender(), lambda request: guess)
        drawer.preload(manager, ["mini"])
        return drawer

    return build


def test_the_same_pictures_and_the_same_steps(lend: Lend, loaded: LoadedModel) -> None:
    request, scheduler = tiny_request(num_images=2), tiny_catalogue().get_scheduler("euler")
    plain, lent = RecordingWatcher(), RecordingWatcher()
    drawer = lend()
    expected = [*draw(loaded, scheduler, request, [0, 1], plain)]
    drawn = [*drawer.draw(loaded, scheduler, request, [0, 1], lent)]
    for one, other in zip(drawn, expected, strict=True):
        assert one.index == other.index
        assert np.array_equal(np.asarray(one.image), np.asarray(other.image))
    assert lent.steps == plain.steps
    assert lent.previews


def test_a_stop_reaches_the_lent_call(lend: Lend, loaded: LoadedModel) -> None:
    watcher = RecordingWatcher(cancel_at=1)
    request = tiny_request(num_inference_steps=50)
    drawer = lend()
    with pytest.raises(Cancelled):
        [*drawer.draw(loaded, tiny_catalogue().get_scheduler("euler"), request, [0], watcher)]
    assert len(watcher.steps) < 10


def test_an_error_in_the_lent_call_is_raised_here(lend: Lend, loaded: LoadedModel) -> None:
    scheduler = tiny_catalogue().get_scheduler("dpmpp_3m")
    request = tiny_request(scheduler="dpmpp_3m", num_inference_steps=200)
    broken = replace(scheduler, class_name="LCMScheduler")
    with pytest.raises(InvalidRequest, match="cannot draw in 200 steps"):
        [*lend().draw(loaded, broken, request, [0], RecordingWatcher())]


@pytest.mark.parametrize(
    ("guess", "seconds"), [(None, 90), (0.5, LEAST_S), (40.0, 60), (10_000.0, MOST_S)]
)
def test_so_many_seconds_are_asked_for(
    lend: Lend, loaded: LoadedModel, guess: Guess, seconds: int
) -> None:
    lender = Lender()
    drawer = lend(lender, guess)
    scheduler = tiny_catalogue().get_scheduler("euler")
    [*drawer.draw(loaded, scheduler, tiny_request(), [0], RecordingWatcher())]
    assert lender.seconds == [seconds]


def test_a_model_that_was_not_preloaded_is_refused(lend: Lend, loaded: LoadedModel) -> None:
    drawer = lend()
    changed = replace(loaded)
    with pytest.raises(InvalidRequest, match="leave out LoRAs.*mini"):
        [*drawer.draw(changed, None, tiny_request(), [0], RecordingWatcher())]  # type: ignore[arg-type]


def test_the_engine_draws_through_it(tmp_path: Path) -> None:
    settings = tiny_settings(data_dir=tmp_path)
    lender, manager = Lender(), tiny_manager(settings)
    studio = Studio(settings, tiny_catalogue(settings))
    studio.start()
    engine = preloaded_engine(studio, manager, replace(settings, preload=("mini",)), lender)
    engine.start()
    job = wait_for_end(studio, studio.submit(tiny_request(num_images=2), ANNA))
    assert not manager.evict("mini")  # borrowed for good
    engine.close()
    studio.close()
    assert job.state is JobState.DONE, job.error
    assert len(job.picture_ids) == 2
    assert len(lender.seconds) == 1
