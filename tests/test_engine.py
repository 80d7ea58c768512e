"""Engine with the real Studio: jobs in, pictures on disk out, whatever goes wrong between."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_house import tiny_catalogue, tiny_request, tiny_settings

from pipelines import upscale
from pipelines.engine import Engine
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from pipelines.running import versions
from pipelines.upscale import Upscaler
from studio.jobs import Job, JobState
from studio.studio import Studio

OWNER = "visitor"


class House:
    """A studio with an engine over tiny checkpoints."""

    def __init__(self, data_dir: Path) -> None:
        folders = {"missing": data_dir / "missing"}
        settings = tiny_settings(folders, data_dir=data_dir, cpu_threads=1)
        catalogue = tiny_catalogue(settings)
        self.studio = Studio(settings, catalogue)
        self.studio.start()
        self.manager = PipelineManager(
            catalogue, Loader(settings), 10**9, self.studio.set_model_state
        )
        self.engine = Engine(self.studio, self.manager, settings)

    def submit(self, **changes: object) -> str:
        return self.studio.submit(tiny_request(**changes), OWNER).id

    def wait(self, job_id: str, timeout_s: float = 120) -> Job:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            job = self.studio.job(job_id, OWNER)
            if not job.is_active:
                return job
            time.sleep(0.02)
        raise AssertionError(f"job is still {job.state}")

    def close(self) -> None:
        self.engine.close()
        self.studio.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    house.engine.start()
    yield house
    house.close()


def test_a_job_becomes_pictures_with_recipes(house: House) -> None:
    job = house.wait(house.submit(num_images=3))
    assert (job.state, job.error) == (JobState.DONE, None)
    assert len(job.picture_ids) == 3
    for index, picture_id in enumerate(job.picture_ids):
        picture = house.studio.picture(picture_id, OWNER)
        assert picture.index == index
        assert picture.recipe.request.seed == 7 + index
        assert picture.recipe.revision.startswith("local@")
        assert picture.recipe.versions == versions()
        assert Image.open(picture.path).size == (64, 64)


def test_upscaling_keeps_the_large_picture(house: House) -> None:
    job = house.wait(house.submit(upscale=4, width=96))
    picture = house.studio.picture(job.picture_ids[0], OWNER)
    assert Image.open(picture.path).size == (384, 256)
    assert picture.recipe.request.upscale == 4


def test_progress_shows_steps_and_a_preview(house: House) -> None:
    job_id = house.submit(num_inference_steps=40)
    seen = [house.studio.progress(job_id, OWNER)]
    while (last := seen[-1]).state is not JobState.DONE:
        seen.append(house.studio.wait_for_change(job_id, OWNER, last.version, 5))
    steps = [progress.step for progress in seen if progress.state is JobState.RUNNING]
    assert steps == sorted(steps)
    assert {progress.total_steps for progress in seen} >= {40}
    assert any(progress.preview for progress in seen)


def test_a_running_job_stops_and_the_next_one_draws(house: House) -> None:
    job_id = house.submit(num_inference_steps=200, num_images=8)
    while house.studio.progress(job_id, OWNER).step < 3:
        time.sleep(0.01)
    asked_at = time.monotonic()
    house.studio.cancel(job_id, OWNER)
    assert house.wait(job_id).state is JobState.CANCELLED
    assert time.monotonic() - asked_at < 10
    assert house.wait(house.submit()).state is JobState.DONE


def test_stop_is_heard_while_a_drawn_picture_is_enlarged(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    enlarge_tile = Upscaler._enlarge_tile

    def stop_at_the_third(upscaler: Upscaler, tile: torch.Tensor) -> np.ndarray:
        seen.append(tile.shape)
        if len(seen) == 3:
            house.studio.cancel(job_id, OWNER)
        return enlarge_tile(upscaler, tile)

    monkeypatch.setattr(upscale, "TILE", 16)
    monkeypatch.setattr(Upscaler, "_enlarge_tile", stop_at_the_third)
    job_id = house.submit(upscale=4)
    stopped = house.wait(job_id)
    assert (stopped.state, stopped.picture_ids, len(seen)) == (JobState.CANCELLED, (), 3)


def test_a_model_that_cannot_be_had_fails_its_job_only(house: House) -> None:
    failed = house.wait(house.submit(model="missing"))
    assert failed.state is JobState.FAILED
    assert "does not exist" in str(failed.error)
    assert house.wait(house.submit()).state is JobState.DONE


def test_a_bug_fails_its_job_in_one_plain_sentence(house: House) -> None:
    with house.manager.borrow("mini") as loaded:
        hook = loaded.pipeline.unet.register_forward_pre_hook(_divide_by_zero)
    failed = house.wait(house.submit())
    assert failed.state is JobState.FAILED
    assert "zero" not in str(failed.error)
    hook.remove()
    assert house.wait(house.submit()).state is JobState.DONE


def _divide_by_zero(*_: object) -> None:
    raise ZeroDivisionError("division by zero")


def test_broken_pictures_leave_notes_and_fail_the_job_only_together(house: House) -> None:
    broken = {1}
    with house.manager.borrow("mini") as loaded:
        decoder, count = loaded.pipeline.vae.decoder, itertools.count()

    def break_some(module: object, inputs: object, pixels: torch.Tensor) -> None:
        if next(count) in broken:
            pixels.fill_(float("nan"))

    decoder.register_forward_hook(break_some)
    job = house.wait(house.submit(num_images=3))
    assert (job.state, job.error, len(job.picture_ids)) == (JobState.DONE, None, 2)
    assert [note.partition(".")[0] for note in job.notes] == [
        "The model drew only black for picture 2"
    ]
    broken |= {3, 4}
    job = house.wait(house.submit(num_images=2))
    assert job.state is JobState.FAILED
    assert "only black for all 2 pictures" in str(job.error)


def test_a_prompt_that_was_cut_leaves_a_note(house: House) -> None:
    job = house.wait(house.submit(prompt="word " * 100))
    assert job.state is JobState.DONE
    [note] = job.notes
    assert "longer than the 75 tokens" in note


def test_a_warm_model_is_reported(house: House) -> None:
    house.engine.warm("mini")
    deadline = time.monotonic() + 60
    while house.studio.availability("mini").state != "loaded" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert house.studio.availability("mini").state == "loaded"
    house.engine.warm("missing")
    assert house.wait(house.submit()).state is JobState.DONE


def test_closing_in_mid_run_leaves_the_job_to_the_next_start(tmp_path: Path) -> None:
    first = House(tmp_path)
    first.engine.start()
    job_id = first.submit(num_inference_steps=100, num_images=2)
    while first.studio.progress(job_id, OWNER).image_index < 1:
        time.sleep(0.01)
    first.close()
    second = House(tmp_path)
    second.engine.start()
    job = second.wait(job_id)
    assert job.state is JobState.DONE
    assert len(job.picture_ids) == 2
    second.close()


def test_starting_returns_at_once(tmp_path: Path) -> None:
    house = House(tmp_path)
    started = time.thread_time()  # of this thread alone, however busy the machine is
    house.engine.start()
    assert time.thread_time() - started < 0.1
    house.close()
