"""Builds a private scheduler for every call, and watches its steps."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from studio.errors import InvalidRequest

if TYPE_CHECKING:
    from studio.specs import SchedulerSpec

UNSAID = {"clip_sample": False}
"""Where a checkpoint does not say: DDIM, DDPM and LCM would cut latents off at 1 otherwise."""

OnStep = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]


def build_scheduler(
    spec: SchedulerSpec,
    original_config: Mapping[str, Any],
    own_class: type[SchedulerMixin] | None = None,
) -> SchedulerMixin:
    """Build `spec`'s scheduler from the checkpoint's ORIGINAL scheduler config.

    The config carries what the checkpoint was trained with (betas, `prediction_type`); the spec
    carries only what the choice means. Building from a scheduler in use instead would carry the
    options of the last choice into this one. A spec without a class is the checkpoint's own.
    """
    scheduler_class = own_class
    if spec.class_name:
        scheduler_class = getattr(importlib.import_module("diffusers"), spec.class_name)
    assert scheduler_class is not None
    config = {**UNSAID, **original_config}
    if "shift" in original_config:  # of flow matching; solvers of both kinds call it otherwise
        config["flow_shift"] = original_config["shift"]
    return scheduler_class.from_config(config, **spec.overrides)


def seed_noise(scheduler: SchedulerMixin, seeds: list[int]) -> None:
    """Seed the scheduler's own noise, one seed per picture of the batch.

    Only the Brownian noise of DPM++ SDE needs it: it has no `generator` argument, and unseeded
    it would draw another picture each time.
    """
    if hasattr(scheduler, "noise_sampler_seed"):
        scheduler.noise_sampler_seed = seeds


def count_steps(
    scheduler: SchedulerMixin, spec: SchedulerSpec, num_inference_steps: int, **options: float
) -> int:
    """Return how often the model will be called: Heun and DPM2 call it twice for most steps.

    Raises:
        InvalidRequest: the scheduler cannot make a schedule of that length.
    """
    try:
        scheduler.set_timesteps(num_inference_steps, **options)
    except (ValueError, IndexError) as exc:
        raise InvalidRequest(
            f"{spec.label} cannot draw in {num_inference_steps} steps with this model. Choose "
            f"fewer."
        ) from exc
    return len(scheduler.timesteps)


def watch_steps(scheduler: SchedulerMixin, on_step: OnStep) -> None:
    """Call `on_step(model_output, timestep, sample)` before each step of this scheduler.

    Every diffusers pipeline steps its scheduler, but not every one has a callback argument.
    What `on_step` raises stops the call at once.
    """
    step = scheduler.step

    @functools.wraps(step)  # pipelines look at the signature of `step`
    def watched_step(
        model_output: torch.Tensor,
        timestep: torch.Tensor,
        sample: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        on_step(model_output, timestep, sample)
        return step(model_output, timestep, sample, *args, **kwargs)

    scheduler.step = watched_step
