"""Transformer families, tiny: from pictures, in 16 bits, short of memory, through the engine."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_families.house import (
    draw_family,
    family_catalogue,
    family_manager,
    family_request,
    family_settings,
    pictures,
    row_of,
    start_for,
)
from tiny_families.transformers import ONE_OF_EACH
from tiny_house import RecordingWatcher

from pipelines.engine import Engine
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from studio.ingredients import START_TASKS, SecondPass
from studio.jobs import JobState
from studio.studio import Studio

every_class = pytest.mark.parametrize("key", ONE_OF_EACH)


@pytest.fixture(scope="module")
def manager() -> PipelineManager:
    return family_manager(*ONE_OF_EACH)


def tasks_from_pictures() -> list[tuple[str, str]]:
    """Every class with every task that starts from a picture."""
    pairs = [(key, task) for key in ONE_OF_EACH for task in row_of(key).tasks]
    return [(key, task) for key, task in pairs if task in START_TASKS]


@pytest.mark.parametrize(("key", "task"), tasks_from_pictures())
def test_tasks_from_pictures_heed_the_picture(
    manager: PipelineManager, key: str, task: str
) -> None:
    for strength in (0.3, 0.55, 1.0):
        request = family_request(key, start=start_for(task, strength), num_inference_steps=4)
        watcher = RecordingWatcher()
        [drawn] = draw_family(manager, request, watcher)
        assert watcher.steps[-1][0] == watcher.steps[0][1] == len(watcher.steps) - 1, strength
    request = replace(request, start=start_for(task, strength=0.5))
    [drawn] = draw_family(manager, request)
    [of_another] = draw_family(manager, request, images=pictures(turned=True))
    assert drawn.shape == (64, 64, 3)
    assert (drawn != of_another).any()


@pytest.mark.parametrize("key", [key for key in ONE_OF_EACH if row_of(key).image_to_image_class])
def test_a_second_pass_keeps_to_the_sizes_that_it_can_draw(
    manager: PipelineManager, key: str
) -> None:
    second = SecondPass(scale=1.4, strength=0.6)  # 89.6 px
    watcher = RecordingWatcher()
    [drawn] = draw_family(manager, family_request(key, second_pass=second), watcher)
    assert drawn.shape == (96, 96, 3)
    assert watcher.steps[-1][0] == watcher.steps[0][1] == len(watcher.steps) - 1


ONE_OF_EACH_AUTOENCODER = ("sd35-medium", "flux2-klein", "sana-sprint", "qwen-image")


@pytest.mark.parametrize("key", ONE_OF_EACH_AUTOENCODER)
def test_where_memory_is_short_it_decodes_in_tiles(manager: PipelineManager, key: str) -> None:
    watcher = RecordingWatcher()
    request = family_request(key)
    [expected] = draw_family(manager, request)
    with manager.borrow(key) as loaded:
        vae = loaded.pipeline.vae
        decode = vae.decode

        def decode_in_tiles(*given: Any, **more: Any) -> Any:
            if not vae.use_tiling:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return decode(*given, **more)

        vae.decode = decode_in_tiles
        [drawn] = draw_family(manager, request, watcher)
        del vae.decode
        assert not vae.use_tiling
    assert "tiles" in watcher.notes[0]
    assert np.corrcoef(drawn.flatten(), expected.flatten())[0, 1] > 0.9


@every_class
def test_it_draws_in_the_number_format_of_a_gpu(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.steps.PREVIEW_INTERVAL_S", 0.0)
    settings = replace(family_settings(key), dtype=row_of(key).gpu_dtype)
    small = PipelineManager(family_catalogue(settings), Loader(settings), 10**9)
    watcher = RecordingWatcher()
    [drawn] = draw_family(small, family_request(key), watcher)
    assert drawn.std() > 1
    assert len(watcher.previews) == family_request(key).num_inference_steps
    with small.borrow(key) as loaded:
        assert str(loaded.pipeline.transformer.dtype) == f"torch.{row_of(key).gpu_dtype}"


def test_one_engine_draws_them_all_and_says_what_it_leaves_out(
    manager: PipelineManager, tmp_path: Path
) -> None:
    settings = family_settings(*ONE_OF_EACH, data_dir=tmp_path)
    catalogue = family_catalogue(settings)
    studio = Studio(settings, catalogue)
    studio.start()
    engine = Engine(studio, PipelineManager(catalogue, Loader(settings), 10**6), settings)
    engine.start()
    for key in ONE_OF_EACH:
        request = family_request(key, prompt="a red fox " * 200, num_inference_steps=2)
        job_id = studio.submit(request, "visitor").id
        while (job := studio.job(job_id, "visitor")).is_active:
            time.sleep(0.02)
        assert (job.state, job.error) == (JobState.DONE, None), key
        assert any("Left out" in note for note in job.notes), key
        kept = Image.open(studio.picture(job.picture_ids[0], "visitor").path)
        [expected] = draw_family(manager, request)
        np.testing.assert_array_equal(np.asarray(kept), expected)
    engine.close()
    studio.close()
