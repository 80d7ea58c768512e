"""Every family at a tiny size: its real classes, the app's own loader, manager and drawing."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_families.house import (
    SAVED_BY,
    draw_family,
    family_catalogue,
    family_manager,
    family_request,
    family_settings,
    pictures,
    row_of,
    start_for,
)
from tiny_house import RecordingWatcher

from pipelines.calls import SHORTENING
from pipelines.engine import Engine
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from studio.errors import Cancelled, InvalidRequest
from studio.ingredients import START_TASKS
from studio.jobs import JobState
from studio.studio import Studio

STEPS_WITHOUT_PREVIEW = {"kandinsky22": 25}
"""Kandinsky's prior thinks of what a CLIP would say of the picture, which nobody can look at."""

ALIKE = ("sd15", "sd21", "sd21-base", "sd15-lcm", "sdxl-lcm", "sdxl-lightning")
"""Rows whose classes and tasks are those of another row here."""
FAMILIES = [key for key in SAVED_BY if key not in ALIKE]

every_row = pytest.mark.parametrize("key", SAVED_BY)
every_family = pytest.mark.parametrize("key", FAMILIES)


@pytest.fixture(scope="module")
def manager() -> PipelineManager:
    return family_manager(*SAVED_BY)


@every_row
def test_its_classes_are_the_rows_and_its_size_is_known_before(
    manager: PipelineManager, key: str
) -> None:
    with manager.borrow(key) as loaded:
        parts = loaded.pipeline.components.values()
        modules = [part for part in parts if isinstance(part, torch.nn.Module)]
        assert type(loaded.pipeline).__name__ == row_of(key).pipeline_class
    weights = sum(weight.nbytes for part in modules for weight in part.parameters())
    assert Loader(family_settings(key)).find(row_of(key), print).nbytes == weights
    assert not any(part.training for part in modules)


@every_row
def test_progress_is_in_order_and_complete_and_shows_previews(
    manager: PipelineManager, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.steps.PREVIEW_INTERVAL_S", 0.0)
    watcher = RecordingWatcher()
    [picture] = draw_family(manager, family_request(key), watcher)
    total = watcher.steps[0][1]
    assert watcher.steps == [(step, total, 0) for step in range(total + 1)]
    assert picture.shape == (64, 64, 3)
    assert picture.std() > 1
    assert len(watcher.previews) == total - STEPS_WITHOUT_PREVIEW.get(key, 0)


@every_family
def test_cancel_stops_within_one_step_and_leaves_the_model_as_it_was(
    manager: PipelineManager, key: str
) -> None:
    request = family_request(key)
    [expected] = draw_family(manager, request)
    watcher = RecordingWatcher(cancel_at=1)
    with pytest.raises(Cancelled):
        draw_family(manager, request, watcher)
    assert [step for step, _, _ in watcher.steps] == [0, 1]
    np.testing.assert_array_equal(draw_family(manager, request), [expected])


@every_family
def test_a_seed_draws_one_picture_alone_and_in_a_request(
    manager: PipelineManager, key: str
) -> None:
    two = draw_family(manager, family_request(key, num_images=2))
    [alone] = draw_family(manager, family_request(key, seed=8))
    np.testing.assert_array_equal(two[1], alone)
    assert (two[0] != two[1]).any()


@every_row
def test_a_negative_prompt_is_heeded_or_refused_as_the_row_says(
    manager: PipelineManager, key: str
) -> None:
    without, with_one = (
        draw_family(manager, family_request(key, guidance_scale=5.0, negative_prompt=text))[0]
        for text in ("", "blurry, blue")
    )
    assert (without != with_one).any() == row_of(key).negative_prompt


@every_family
def test_guidance_of_one_turns_it_off(manager: PipelineManager, key: str) -> None:
    off, off_again, on = (
        draw_family(manager, family_request(key, guidance_scale=scale, negative_prompt=negative))[0]
        for scale, negative in ((1.0, ""), (1.0, "blurry, blue"), (6.0, ""))
    )
    np.testing.assert_array_equal(off, off_again)
    assert (off != on).any() == (row_of(key).guidance != "none")


@pytest.mark.parametrize("key", ["sd14", "sdxl", "sd2-depth", "sd-x4-upscaler"])
def test_half_precision_draws_nearly_the_same(manager: PipelineManager, key: str) -> None:
    """As on a GPU: what is not brought to the dtype of the weights would fail here too."""
    settings = replace(family_settings(key), dtype="float16")
    half = PipelineManager(family_catalogue(settings), Loader(settings), 10**9)
    request = family_request(key, num_inference_steps=2)
    [exact], [drawn] = (draw_family(one, request) for one in (manager, half))
    assert np.abs(np.subtract(drawn, exact, dtype=int)).max() <= 8


ONE_OF_EACH = {(row_of(key).family, row_of(key).schedulers): key for key in SAVED_BY}
"""Rows of one family have the same schedulers, but for those that draw in a few steps."""


@pytest.mark.parametrize("key", ONE_OF_EACH.values())
def test_all_its_schedulers_draw(manager: PipelineManager, key: str) -> None:
    """One of each class; tests/test_schedulers.py has the ways to space their steps."""
    offered = family_catalogue(family_settings(key)).schedulers_of(key)
    for scheduler in {spec.class_name: spec.key for spec in offered.values()}.values():
        watcher = RecordingWatcher()
        request = family_request(key, scheduler=scheduler, num_inference_steps=2)
        [picture] = draw_family(manager, request, watcher)
        assert picture.std() > 1, scheduler
        assert watcher.steps[-1][0] == watcher.steps[0][1], scheduler


def tasks_from_pictures() -> list[tuple[str, str]]:
    """Every family with every task that starts from a picture."""
    pairs = [(key, task) for key in FAMILIES for task in row_of(key).tasks]
    return [(key, task) for key, task in pairs if task in START_TASKS]


@pytest.mark.parametrize(("key", "task"), tasks_from_pictures())
def test_tasks_from_pictures_heed_the_picture(
    manager: PipelineManager, key: str, task: str
) -> None:
    request = family_request(key, start=start_for(task, strength=0.5), num_inference_steps=4)
    watcher = RecordingWatcher()
    [drawn] = draw_family(manager, request, watcher)
    [of_another] = draw_family(manager, request, images=pictures(turned=True))
    assert watcher.steps[-1][0] == watcher.steps[0][1] == len(watcher.steps) - 1
    assert drawn.shape == (64, 64, 3)
    assert (drawn != of_another).any()


@pytest.mark.parametrize("key", [key for key, task in tasks_from_pictures() if "image" in task])
def test_a_strength_that_leaves_no_step_is_refused_with_the_steps_it_wants(
    manager: PipelineManager, key: str
) -> None:
    task = next(task for task in row_of(key).tasks if "_to_image" in task and "text" not in task)
    weak = start_for(task, strength=0.25)
    few = family_request(key, start=weak, num_inference_steps=3)
    if row_of(key).image_to_image_class in SHORTENING:
        few = replace(few, start=start_for(task, strength=0.05), num_inference_steps=4)
    with pytest.raises(InvalidRequest, match="at least 4 steps|cannot draw in 4 steps"):
        draw_family(manager, few)
    [drawn] = draw_family(manager, family_request(key, start=weak, num_inference_steps=4))
    assert drawn.std() > 1


@pytest.mark.parametrize("key", ["sdxl", "kandinsky22"])
def test_the_whole_engine_draws_it(tmp_path: Path, key: str) -> None:
    settings = family_settings(key, data_dir=tmp_path)
    catalogue = family_catalogue(settings)
    studio = Studio(settings, catalogue)
    studio.start()
    models = PipelineManager(catalogue, Loader(settings), 10**9, studio.set_model_state)
    engine = Engine(studio, models, settings)
    engine.start()
    request = family_request(key, num_images=2, exact=True)
    job_id = studio.submit(request, "visitor").id
    while (job := studio.job(job_id, "visitor")).is_active:
        time.sleep(0.02)
    kept = [studio.picture(picture_id, "visitor") for picture_id in job.picture_ids]
    engine.close()
    studio.close()
    assert (job.state, job.error, len(kept)) == (JobState.DONE, None, 2)
    pixels = draw_family(family_manager(key), request)
    for picture, expected in zip(kept, pixels, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(picture.path)), expected)
