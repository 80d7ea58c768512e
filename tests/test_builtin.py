"""The built-in model in the pipelines: the promises that need the real weights."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from PIL import Image
from tiny_house import RecordingWatcher

from pipelines.drawing import draw
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.settings import ROOT, Settings

FOLDER = ROOT / "assets" / "builtin"
SETTINGS = Settings(device="cpu", offline=True)
CATALOGUE = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, SETTINGS)

pytestmark = pytest.mark.skipif(
    not (FOLDER / "model_index.json").is_file(),
    reason="assets/builtin holds no model yet: run `make train`",
)


@pytest.fixture(scope="module")
def manager() -> PipelineManager:
    return PipelineManager(CATALOGUE, Loader(SETTINGS), 10**9)


def test_its_row_says_what_the_checkpoint_is(manager: PipelineManager) -> None:
    spec = CATALOGUE.get_model("builtin")
    with manager.borrow("builtin") as loaded:
        pipeline = loaded.pipeline
        side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
        assert spec.defaults.width == spec.defaults.height == side
        assert spec.multiple_of % pipeline.vae_scale_factor == 0
        assert loaded.nbytes <= spec.memory_gb * 1e9
        assert loaded.scheduler_config["prediction_type"] == "v_prediction"


def test_plain_diffusers_draws_the_same_pixels(manager: PipelineManager) -> None:
    request = CATALOGUE.default_request("builtin", "a red house").with_seed(3)
    plain = StableDiffusionPipeline.from_pretrained(FOLDER)
    plain.scheduler = EulerDiscreteScheduler.from_config(plain.scheduler.config)
    expected = plain(
        request.prompt,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        width=request.width,
        height=request.height,
        generator=torch.Generator("cpu").manual_seed(3),
    ).images[0]
    spec = CATALOGUE.get_scheduler("euler")
    with manager.borrow("builtin") as loaded:
        [drawn] = draw(loaded, spec, request, [0], RecordingWatcher())
    np.testing.assert_array_equal(np.asarray(drawn.image), np.asarray(expected))


def test_the_fast_row_comes_in_four_steps_closer_to_twenty_than_the_model_itself(
    manager: PipelineManager,
) -> None:
    def pictures(key: str, **changes: object) -> list[np.ndarray]:
        request = replace(CATALOGUE.default_request(key, "two red apples"), num_images=6, **changes)
        spec = CATALOGUE.get_scheduler("euler_trailing")
        with manager.borrow(key) as loaded:
            drawn = draw(loaded, spec, request.with_seed(3), range(6), RecordingWatcher())
            return [np.asarray(one.image, float) for one in drawn]

    def error(others: list[np.ndarray]) -> float:
        return float(np.mean([np.abs(a - b).mean() for a, b in zip(wanted, others, strict=True)]))

    fast = CATALOGUE.default_request("builtin-fast", "two red apples")
    assert (fast.num_inference_steps, fast.guidance_scale) == (4, 1.0)
    wanted = pictures("builtin", scheduler="euler_trailing")
    own_try = pictures("builtin", num_inference_steps=4, guidance_scale=1.0)
    assert error(pictures("builtin-fast")) < 0.8 * error(own_try)


def test_the_last_preview_looks_like_the_picture(
    manager: PipelineManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.steps.PREVIEW_INTERVAL_S", 0.0)
    request = CATALOGUE.default_request("builtin", "a yellow sun on a blue ground").with_seed(3)
    watcher = RecordingWatcher()
    with manager.borrow("builtin") as loaded:
        [drawn] = draw(loaded, CATALOGUE.get_scheduler("euler"), request, [0], watcher)
    last = Image.open(io.BytesIO(watcher.previews[-1]))
    small = [np.asarray(image.resize((16, 16)), float).ravel() for image in (last, drawn.image)]
    assert np.corrcoef(*small)[0, 1] > 0.8
