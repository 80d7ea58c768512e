"""Models of several stages or in parts: progress, stop and seed, Karlo and VQ-Diffusion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_families.cascade_house import (
    SAVED_BY,
    SIDES,
    STEPS,
    TOTALS,
    draw_all,
    make_manager,
    make_request,
    pixels_of,
    small_picture,
)
from tiny_house import RecordingWatcher

from pipelines.manager import PipelineManager
from studio.errors import Cancelled

every_cascade = pytest.mark.parametrize("key", SIDES)


@pytest.fixture(scope="module")
def manager() -> PipelineManager:
    return make_manager()


@every_cascade
def test_progress_is_in_order_complete_and_shown(manager: PipelineManager, key: str) -> None:
    watcher = RecordingWatcher()
    [image] = draw_all(manager, make_request(key), watcher)
    assert isinstance(image, Image.Image)
    assert image.size == (SIDES[key], SIDES[key])
    total = TOTALS[key]
    assert watcher.steps == [(step, total, 0) for step in range(total + 1)]
    assert watcher.previews
    assert all(preview.startswith(b"\xff\xd8") for preview in watcher.previews)


@every_cascade
def test_the_seed_decides_alone_and_among_others(manager: PipelineManager, key: str) -> None:
    first, second = pixels_of(manager, make_request(key, num_images=2))
    [alone] = pixels_of(manager, make_request(key, seed=8))
    np.testing.assert_array_equal(second, alone)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("key", SAVED_BY)
def test_a_batch_has_the_pictures_that_are_drawn_alone(
    manager: PipelineManager, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"scheduler": "ddim", "width": 256, "height": 256}
    request = make_request(key, num_images=2, **(changes if key == "sd-x4-upscaler" else {}))
    alone = pixels_of(manager, request)
    monkeypatch.setattr("pipelines.drawing.picks_batches", lambda device: True)
    together = pixels_of(manager, request)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.astype(int), other.astype(int), atol=2)


@pytest.mark.parametrize("key", [key for key in SIDES if key != "karlo-variations"])
def test_the_words_decide_too(manager: PipelineManager, key: str) -> None:
    [fox] = pixels_of(manager, make_request(key))
    [chair] = pixels_of(manager, make_request(key, prompt="an iron chair"))
    assert not np.array_equal(fox, chair)


@every_cascade
def test_stop_is_heard_at_every_step(manager: PipelineManager, key: str) -> None:
    for step in range(TOTALS[key]):
        watcher = RecordingWatcher(cancel_at=step)
        with pytest.raises(Cancelled):
            draw_all(manager, make_request(key), watcher)
        assert watcher.steps[-1][0] == step
    assert len(draw_all(manager, make_request(key))) == 1


@pytest.mark.parametrize(("asked", "prior"), [(8.0, 4.0), (1.0, 1.0)])
def test_karlo_draws_the_pixels_of_the_plain_pipeline(
    manager: PipelineManager, asked: float, prior: float
) -> None:
    with manager.borrow("karlo") as loaded:
        plain = loaded.pipeline
        plain.set_progress_bar_config(disable=True)
        expected = plain(
            "a red fox",
            prior_num_inference_steps=STEPS,
            decoder_num_inference_steps=STEPS,
            prior_guidance_scale=prior,
            decoder_guidance_scale=asked,
            generator=torch.Generator("cpu").manual_seed(7),
        ).images[0]
    [drawn] = pixels_of(manager, make_request("karlo", guidance_scale=asked))
    np.testing.assert_array_equal(drawn, np.asarray(expected))


def test_karlo_draws_a_picture_anew_from_itself_alone(manager: PipelineManager) -> None:
    key = "karlo-variations"
    [varied] = pixels_of(manager, make_request(key))
    [other_words] = pixels_of(manager, make_request(key, prompt="an iron chair"))
    np.testing.assert_array_equal(varied, other_words)
    turned = small_picture().transpose(Image.Transpose.ROTATE_180)
    [other_picture] = draw_all(manager, make_request(key), picture=turned)
    assert not np.array_equal(varied, np.asarray(other_picture))


def test_vq_diffusion_draws_the_pixels_of_the_plain_pipeline(manager: PipelineManager) -> None:
    with manager.borrow("vq-diffusion") as loaded:
        plain = loaded.pipeline
        plain.set_progress_bar_config(disable=True)
        expected = plain(
            "a red fox",
            num_inference_steps=STEPS,
            guidance_scale=5.0,
            generator=torch.Generator("cpu").manual_seed(7),
        ).images[0]
    [drawn] = pixels_of(manager, make_request("vq-diffusion"))
    np.testing.assert_array_equal(drawn, np.asarray(expected))
