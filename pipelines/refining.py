"""The last steps by a second model: SDXL's base and refiner (Podell et al. 2023, section 2.5).

The base stops while some noise is left, and the refiner, which knows only such pictures, goes on
from there in the same latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pipelines.calls import call_arguments
from pipelines.families import Batch, Result
from pipelines.prompts import prompt_arguments
from pipelines.schedulers import build_scheduler, seed_noise
from pipelines.shells import build_shell

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

    from pipelines.loader import LoadedModel

BASE_SHARE = 0.8
"""Of the noise that the base takes away: what the refiner was taught to go on from."""
TAKEN_FROM_BASE = ("width", "height")
"""Arguments that the refiner's class has not: it draws over latents of the base's size."""


@dataclass(frozen=True, slots=True)
class Refined:
    """The two schedulers of one batch, and how many calls each leads to."""

    base: SchedulerMixin
    refiner: SchedulerMixin
    base_calls: int
    refiner_calls: int


def prepare(batch: Batch) -> Refined:
    """Build both schedulers and share the steps between them."""
    assert batch.refiner is not None
    base, refiner = (_scheduler(batch, loaded) for loaded in (batch.loaded, batch.refiner))
    return Refined(base, refiner, _count(batch, base)[0], _count(batch, refiner)[1])


def draw_refined(batch: Batch, schedulers: Refined) -> list[Result]:
    """Draw with the model until some noise is left, and with its refiner from there."""
    assert batch.refiner is not None
    spec, request = batch.loaded.spec, batch.request
    arguments = call_arguments(spec, request, batch.seeds, batch.images)
    batch.steps.watch(schedulers.base)
    shell = build_shell(batch.loaded, schedulers.base)
    arguments |= {"output_type": "latent", "denoising_end": BASE_SHARE}
    steps = range(request.num_inference_steps)
    edge = round(BASE_SHARE * len(steps))
    stop = batch.steps.stop_if_cancelled
    said = prompt_arguments(batch.loaded, request, steps[:edge], stop)
    latents = shell(**said, **arguments).images  # (B, 4, h, w)
    rest = {name: value for name, value in arguments.items() if name not in TAKEN_FROM_BASE}
    del rest["denoising_end"]
    rest |= {"output_type": "np", "denoising_start": BASE_SHARE, "image": latents}
    batch.steps.watch(schedulers.refiner)
    refining = build_shell(batch.refiner, schedulers.refiner)
    said = prompt_arguments(batch.refiner, request, steps[edge:], stop)
    output = refining(**said, **rest)
    return [Result(pixels) for pixels in output.images]


def _scheduler(batch: Batch, loaded: LoadedModel) -> SchedulerMixin:
    """The chosen scheduler with the betas of this checkpoint, its noise seeded."""
    scheduler = build_scheduler(batch.scheduler_spec, loaded.scheduler_config, loaded.scheduler)
    seed_noise(scheduler, list(batch.seeds))
    return scheduler


def _count(batch: Batch, scheduler: SchedulerMixin) -> tuple[int, int]:
    """Calls before and after the change, as diffusers' two pipelines share the timesteps."""
    scheduler.set_timesteps(batch.request.num_inference_steps)
    timesteps: torch.Tensor = scheduler.timesteps
    length = scheduler.config.num_train_timesteps
    edge = round(length * (1 - BASE_SHARE))
    before, after = int((timesteps >= edge).sum()), int((timesteps < edge).sum())
    return before, after + (1 if scheduler.order == 2 and after % 2 == 0 else 0)
