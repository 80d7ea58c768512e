"""Every scheduler, called as pipelines do, arrives at the picture that a perfect model points to.

The model knows the picture and the noise that it was mixed with. A scheduler that does not fit the
config of a checkpoint, its kind of prediction or the schedule of its pipeline ends elsewhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from small_studio import make_catalogue

from pipelines.schedulers import build_scheduler, count_steps, seed_noise
from studio.specs import SchedulerSpec

CATALOGUE = make_catalogue()
STEPS = 12
PICTURE = torch.linspace(-0.9, 0.9, 64).reshape(1, 4, 4, 4)
NOISE = torch.randn(PICTURE.shape, generator=torch.Generator().manual_seed(1))
NEAR = 0.05
"""Root mean square distance of the end from the picture: the last step of some leaves as much of
the noise as there is at the last of a checkpoint's thousand."""
ADDING_NOISE = (
    "DDPMScheduler",
    "DPMSolverSDEScheduler",
    "EulerAncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "LCMScheduler",
    "TCDScheduler",
)
"""Classes that mix new noise in at each step, which the model must see."""

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
WITH_BETAS: Mapping[str, Mapping[str, Any]] = {
    "sd1": {**BETAS, "steps_offset": 1, "prediction_type": "epsilon"},
    "sd2": {**BETAS, "steps_offset": 1, "prediction_type": "v_prediction"},
    "pixart": {
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "prediction_type": "epsilon",
    },
}
"""Scheduler configs as of the repositories on the Hub."""

DYNAMIC = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}
FLOWS: Mapping[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
    "flux1-dev": ({"shift": 3.0, **DYNAMIC}, ("own sigmas", "mu")),
    "flux1-schnell": ({"shift": 1.0}, ("own sigmas", "mu")),
    "flux2-klein": ({"shift": 3.0, **DYNAMIC}, ("own sigmas", "mu")),
    "sd35-medium": ({"shift": 3.0}, ()),
    "z-image": ({"shift": 6.0}, ("sigmas", "mu")),
    "z-image-turbo": ({"shift": 3.0}, ("sigmas", "mu")),
    "qwen-image": ({"shift": 1.0, **DYNAMIC, "shift_terminal": 0.02}, ("sigmas", "mu")),
}
"""Scheduler config of a row, and what its pipeline gives to `set_timesteps`; "own sigmas" it gives
to solvers of flow matching alone."""


def keys_of(family: str) -> list[str]:
    return [key for key, spec in CATALOGUE.schedulers.items() if spec.family == family]


@pytest.mark.parametrize("kind", WITH_BETAS)
@pytest.mark.parametrize("key", keys_of("ddpm"))
def test_with_betas_it_arrives(kind: str, key: str) -> None:
    spec = CATALOGUE.schedulers[key]
    assert distance(solve_betas(spec, WITH_BETAS[kind])) < NEAR


@pytest.mark.parametrize(
    ("row", "key"),
    [(row, key) for row in FLOWS for key in CATALOGUE.models[row].schedulers],
)
def test_with_flow_matching_it_arrives(row: str, key: str) -> None:
    assert distance(solve_flow(row, CATALOGUE.schedulers[key])) < NEAR


@pytest.mark.parametrize("row", FLOWS)
def test_flow_solvers_follow_the_checkpoints_own_shift(row: str) -> None:
    halfway = {
        key: float(flow_scheduler(row, CATALOGUE.schedulers[key]).sigmas[STEPS // 2])
        for key in CATALOGUE.models[row].schedulers
    }
    assert max(halfway.values()) - min(halfway.values()) < 0.06, halfway


def test_a_solver_that_does_not_fit_ends_elsewhere() -> None:
    deis = SchedulerSpec(
        key="deis",
        label="",
        a1111="",
        class_name="DEISMultistepScheduler",
        overrides={"use_flow_sigmas": True, "prediction_type": "flow_prediction"},
    )
    assert distance(solve_flow("sd35-medium", deis)) > 4 * NEAR


@pytest.mark.parametrize("key", ["euler", "ddim", "dpmpp_2m", "unipc", "lms", "heun"])
def test_a_model_of_another_prediction_ends_elsewhere(key: str) -> None:
    spec = CATALOGUE.schedulers[key]
    for kind, answers in (("sd1", "v_prediction"), ("sd2", "epsilon")):
        assert distance(solve_betas(spec, WITH_BETAS[kind], answers)) > 10 * NEAR


def distance(end: torch.Tensor) -> float:
    return float((end - PICTURE).pow(2).mean().sqrt())


def solve_betas(
    spec: SchedulerSpec, config: Mapping[str, Any], answers: str | None = None
) -> torch.Tensor:
    """Draw with a perfect model of a checkpoint with betas.

    Args:
        answers: its kind of prediction, if that is not the config's.
    """
    scheduler = build_scheduler(spec, config)
    seed_noise(scheduler, [7])
    count_steps(scheduler, spec, STEPS)
    takes_noise = "generator" in inspect.signature(scheduler.step).parameters
    noise = {"generator": torch.Generator().manual_seed(2)} if takes_noise else {}
    sample = first_sample(scheduler)
    for timestep in scheduler.timesteps:
        shown = scheduler.scale_model_input(sample, timestep)
        answer = perfect(scheduler, shown, timestep, answers or config["prediction_type"])
        sample = scheduler.step(answer, timestep, sample, **noise)[0]
    return sample


def first_sample(scheduler: SchedulerMixin) -> torch.Tensor:
    """PICTURE and NOISE, mixed as they are at the scheduler's first timestep."""
    if scheduler.init_noise_sigma > 1.1:
        return PICTURE + scheduler.init_noise_sigma * NOISE
    a, b = mixture(scheduler, scheduler.timesteps[0])
    return a * PICTURE + b * NOISE


def mixture(scheduler: SchedulerMixin, timestep: torch.Tensor) -> tuple[float, float]:
    """Shares of the picture and of the noise in what a model is shown, a² + b² = 1."""
    kept = scheduler.alphas_cumprod.double()
    ratio = np.interp(float(timestep), np.arange(len(kept)), ((1 - kept) / kept).log().numpy())
    a = float((1 + np.exp(ratio)) ** -0.5)
    return a, (1 - a**2) ** 0.5


def perfect(
    scheduler: SchedulerMixin, shown: torch.Tensor, timestep: torch.Tensor, kind: str
) -> torch.Tensor:
    """What a model answers that knows the picture, and the noise unless that is new."""
    a, b = mixture(scheduler, timestep)
    is_new = type(scheduler).__name__ in ADDING_NOISE or is_sde(scheduler)
    noise = (shown - a * PICTURE) / b if is_new else NOISE
    return noise if kind == "epsilon" else a * noise - b * PICTURE


def is_sde(scheduler: SchedulerMixin) -> bool:
    return str(scheduler.config.get("algorithm_type")).startswith("sde")


def solve_flow(row: str, spec: SchedulerSpec) -> torch.Tensor:
    """Draw with a perfect model of flow matching, the schedule made as the row's pipeline does."""
    scheduler = flow_scheduler(row, spec)
    sample = NOISE
    for timestep in scheduler.timesteps:
        sample = scheduler.step(NOISE - PICTURE, timestep, sample, return_dict=False)[0]
    return sample


def flow_scheduler(row: str, spec: SchedulerSpec) -> SchedulerMixin:
    """A scheduler that is set to STEPS steps."""
    config, sets = FLOWS[row]
    own = FlowMatchEulerDiscreteScheduler(**config)
    scheduler = build_scheduler(spec, own.config, type(own))
    given: dict[str, Any] = {"mu": 0.8} if "mu" in sets else {}
    if "sigmas" in sets or ("own sigmas" in sets and spec.key == "flow_euler"):
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / STEPS, STEPS), **given)
    else:
        scheduler.set_timesteps(STEPS, **given)
    return scheduler
