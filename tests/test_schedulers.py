"""Schedulers: every row of assets/schedulers.toml draws, and no choice leaks into the next."""

from __future__ import annotations

import numpy as np
import pytest
from diffusers.configuration_utils import FrozenDict
from tiny_house import RecordingWatcher, tiny_catalogue, tiny_manager, tiny_request

from pipelines.drawing import draw
from pipelines.manager import PipelineManager
from pipelines.schedulers import build_scheduler, count_steps
from studio.catalogue_files import SCHEDULERS_TOML, tomllib

ROWS = tomllib.loads(SCHEDULERS_TOML.read_text())
KEYS = [key for key, row in ROWS.items() if row.get("family", "ddpm") == "ddpm"]
"""Those of models with betas, as Stable Diffusion. test_catalogue.py holds the others."""


@pytest.fixture(scope="module")
def manager() -> PipelineManager:
    return tiny_manager()


@pytest.mark.parametrize("key", KEYS)
def test_every_scheduler_draws_with_the_prediction_type_of_the_checkpoint(
    manager: PipelineManager, key: str
) -> None:
    spec = tiny_catalogue().schedulers.get(key)
    assert spec is not None, f"the package that {key} requires is not installed"
    watcher = RecordingWatcher()
    with manager.borrow("mini") as loaded:
        scheduler = build_scheduler(spec, loaded.scheduler_config)
        assert type(scheduler).__name__ == spec.class_name
        assert scheduler.config.prediction_type == "v_prediction"
        assert scheduler.config.beta_schedule == "scaled_linear"
        [drawn] = draw(loaded, spec, tiny_request(scheduler=key), [0], watcher)
    step, total_steps, _ = watcher.steps[-1]
    assert step == total_steps == count_steps(scheduler, spec, 4)
    assert abs(count_steps(scheduler, spec, 20) - 20 * spec.calls_per_step) <= 1
    assert np.asarray(drawn.image).std() > 0


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_the_checkpoint_decides_the_prediction_type(
    manager: PipelineManager, prediction_type: str
) -> None:
    with manager.borrow("mini") as loaded:
        config = {**loaded.scheduler_config, "prediction_type": prediction_type}
    for spec in (tiny_catalogue().schedulers[key] for key in KEYS):
        built = build_scheduler(spec, config)
        assert built.config.prediction_type == prediction_type, spec.key


def test_karras_sigmas_do_not_leak_into_the_next_choice(manager: PipelineManager) -> None:
    schedulers = tiny_catalogue().schedulers
    with manager.borrow("mini") as loaded:
        before = build_scheduler(schedulers["euler"], loaded.scheduler_config)
        karras = build_scheduler(schedulers["dpmpp_2m_karras"], loaded.scheduler_config)
        after = build_scheduler(schedulers["euler"], loaded.scheduler_config)
    assert karras.config.use_karras_sigmas
    assert not after.config.use_karras_sigmas
    for scheduler in (before, after):
        scheduler.set_timesteps(10)
    np.testing.assert_array_equal(before.sigmas, after.sigmas)


def test_drawing_leaves_the_checkpoints_config_alone(manager: PipelineManager) -> None:
    spec = tiny_catalogue().get_scheduler("dpmpp_2m_karras")
    with manager.borrow("mini") as loaded:
        before = FrozenDict(loaded.scheduler_config)
        list(draw(loaded, spec, tiny_request(), [0], RecordingWatcher()))
        assert loaded.scheduler_config == before
        assert loaded.pipeline.scheduler.config.get("use_karras_sigmas") is None
