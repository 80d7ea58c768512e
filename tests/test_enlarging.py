"""Enlarging a kept picture: a new picture, by a job like any other."""

from __future__ import annotations

import io
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_studio import ANNA, BERT, Scribbler, make_request, open_studio, wait_for_end
from test_engine import OWNER, House
from tiny_house import tiny_request

from pipelines import upscale
from pipelines.upscale import Upscaler
from studio.errors import InvalidRequest, NotFound
from studio.jobs import Enlargement, Job, JobState
from studio.pictures import Picture
from studio.progress import Progress


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    house.engine.start()
    yield house
    house.close()


@pytest.fixture
def many_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enlarge in tiles of 16 px, so that there is time to look."""
    monkeypatch.setattr(upscale, "TILE", 16)


def only_picture(house: House, job: Job) -> Picture:
    assert (job.state, job.error) == (JobState.DONE, None)
    [picture_id] = job.picture_ids
    return house.studio.picture(picture_id, OWNER)


def drawn(house: House, **changes: object) -> Picture:
    return only_picture(house, house.wait(house.submit(**changes)))


def enlarged(house: House, picture: Picture) -> Picture:
    job = house.studio.enlarge(picture.id, OWNER)
    return only_picture(house, house.wait(job.id, timeout_s=60))


@pytest.mark.parametrize("tiling", ["none", "x"])
def test_the_new_picture_is_the_one_that_was_drawn_large(house: House, tiling: str) -> None:
    small = drawn(house, tiling=tiling, seed=9)
    large = enlarged(house, small)
    wanted = drawn(house, tiling=tiling, seed=9, upscale=4)
    assert (large.width, large.height) == (256, 256)
    assert Image.open(large.path).tobytes() == Image.open(wanted.path).tobytes()
    assert house.studio.picture(small.id, OWNER) == small


def test_its_recipe_names_its_parent_and_draws_it_again(house: House) -> None:
    small = drawn(house, seed=9, num_images=1)
    large = enlarged(house, small)
    assert (large.recipe.parent_id, large.recipe.enlarged) == (small.id, 4)
    assert large.recipe.request == small.recipe.request
    assert large.recipe.revision == small.recipe.revision
    text = str(Image.open(large.path).info["parameters"])
    assert "Hires upscale: 4" in text and f"Parent: {small.id}" in text
    assert house.studio.read_settings(large.path).fields["seed"] == 9
    larger = enlarged(house, large)
    assert (larger.recipe.parent_id, larger.recipe.enlarged) == (large.id, 16)
    assert Image.open(larger.path).size == (1024, 1024)


def test_the_model_is_not_needed(house: House) -> None:
    small = drawn(house)
    del house.studio.catalogue.models["mini"]
    assert enlarged(house, small).width == 256


def test_its_parts_are_counted_and_stopped(house: House, many_tiles: None) -> None:
    small = drawn(house)
    job = house.studio.enlarge(small.id, OWNER)
    while (seen := house.studio.progress(job.id, OWNER)).step < 3:
        assert seen.state.is_active
        time.sleep(0.005)
    assert (seen.is_enlargement, seen.total_steps) == (True, 16)
    assert seen.preview and seen.preview.startswith(b"\xff\xd8")
    house.studio.cancel(job.id, OWNER)
    stopped = house.wait(job.id)
    assert (stopped.state, stopped.picture_ids) == (JobState.CANCELLED, ())
    again = house.studio.retry(job.id, OWNER)
    assert again.enlargement == stopped.enlargement
    assert only_picture(house, house.wait(again.id)).width == 256


def test_parts_of_a_drawn_picture_are_counted(
    house: House, many_tiles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing: list[Progress] = []
    enlarging: list[Progress] = []
    enlarge_tile = Upscaler._enlarge_tile

    def look(upscaler: Upscaler, tile: torch.Tensor) -> np.ndarray:
        enlarging.append(house.studio.progress(job_id, OWNER))
        return enlarge_tile(upscaler, tile)

    with house.manager.borrow("mini") as loaded:
        loaded.pipeline.unet.register_forward_pre_hook(
            lambda *_: drawing.append(house.studio.progress(job_id, OWNER))
        )
    monkeypatch.setattr(Upscaler, "_enlarge_tile", look)
    job_id = house.submit(upscale=4, num_images=2, num_inference_steps=3)
    assert house.wait(job_id).state is JobState.DONE
    assert [(each.image_index, each.part) for each in enlarging] == [
        (index, part) for index in range(2) for part in range(16)
    ]
    assert {(each.step, each.total_steps, each.parts) for each in enlarging} == {(3, 3, 16)}
    assert {each.state for each in enlarging} == {JobState.RUNNING}
    previews = [Image.open(io.BytesIO(each.preview or b"")) for each in enlarging]
    assert {preview.size for preview in previews} == {(64, 64)}
    assert {each.parts for each in drawing[:3]} == {0}


def test_it_outlives_the_end_of_the_server(tmp_path: Path, many_tiles: None) -> None:
    first = House(tmp_path)
    first.engine.start()
    job = first.studio.enlarge(drawn(first).id, OWNER)
    while first.studio.progress(job.id, OWNER).step < 3:
        time.sleep(0.005)
    first.close()
    second = House(tmp_path)
    second.engine.start()
    assert only_picture(second, second.wait(job.id)).width == 256
    second.close()


def test_a_picture_deleted_meanwhile_fails_its_job_in_words(tmp_path: Path) -> None:
    house = House(tmp_path)
    with Scribbler(house.studio):
        done = wait_for_end(house.studio, house.studio.submit(tiny_request(), OWNER))
    job = house.studio.enlarge(done.picture_ids[0], OWNER)
    house.studio.delete_picture(done.picture_ids[0], OWNER)
    house.engine.start()
    failed = house.wait(job.id)
    assert (failed.state, failed.error) == (
        JobState.FAILED,
        "The picture was deleted before it could be enlarged.",
    )
    with pytest.raises(NotFound):
        house.studio.retry(job.id, OWNER)
    house.close()


def test_only_ones_own_pictures_up_to_a_limit(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio, Scribbler(studio):
        wide = make_request(model="sd2", width=1024, height=256, num_inference_steps=1)
        done = wait_for_end(studio, studio.submit(wide, ANNA))
        [picture_id] = done.picture_ids
        with pytest.raises(NotFound):
            studio.enlarge(picture_id, BERT)
        assert studio.enlarge(picture_id, ANNA).enlargement == Enlargement(
            picture_id=picture_id, width=1024, height=256
        )
        wider = make_request(model="sd2", width=256, height=264, num_inference_steps=1, upscale=4)
        done = wait_for_end(studio, studio.submit(wider, ANNA))
        with pytest.raises(InvalidRequest, match="4096 x 4224 px; a picture has at most 4096 px"):
            studio.enlarge(done.picture_ids[0], ANNA)


def test_the_time_it_takes_is_learnt(house: House, many_tiles: None) -> None:
    small = drawn(house)
    first = house.studio.enlarge(small.id, OWNER)
    assert house.studio.progress(first.id, OWNER).eta_s is None
    house.wait(first.id)
    second = house.studio.enlarge(small.id, OWNER)
    left = []
    while (progress := house.studio.progress(second.id, OWNER)).state.is_active:
        left += [progress.eta_s] if progress.eta_s is not None else []
        time.sleep(0.005)
    assert left and max(left) > 0 and left[-1] < max(left)


def test_a_database_from_before_is_brought_up_to_date(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio, Scribbler(studio):
        done = wait_for_end(studio, studio.submit(make_request(), ANNA))
        picture = studio.picture(done.picture_ids[0], ANNA)
    with sqlite3.connect(tmp_path / "croquis.db") as connection:
        connection.execute("ALTER TABLE jobs DROP COLUMN enlargement")
        connection.execute("UPDATE jobs SET request = json_remove(request, '$.tiling')")
        since = "'$.request.tiling', '$.parent_id', '$.enlarged'"
        connection.execute(f"UPDATE pictures SET recipe = json_remove(recipe, {since})")
    with open_studio(tmp_path) as studio, Scribbler(studio):
        assert studio.job(done.id, ANNA) == done
        assert studio.picture(done.picture_ids[0], ANNA) == picture
        assert studio.enlarge(done.picture_ids[0], ANNA).enlargement is not None
