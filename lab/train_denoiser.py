"""Train the denoiser on cached latents and text states, first at half the size, then at full."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import nn

from lab.latents import Latents
from lab.networks import SCHEDULE, build_unet
from lab.store import load_training, save_training
from lab.workers import Workers

PEAK_LEARNING_RATE = 1e-3
WARM_UP_STEPS = 300
EMPTY_CAPTIONS = 0.1
"""Share of captions replaced by the empty one, for guidance."""
SNR_CAP = 5.0
"""Signal-to-noise ratio above which an error weighs less, as in https://arxiv.org/abs/2303.09556."""
AVERAGE_EVERY = 2
"""Steps between two updates of the averaged weights."""
CHECKPOINT_S = 240.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Phase:
    """One size at which the denoiser is trained."""

    size: str
    """"half" or "full": which latents."""
    batch: int
    until_s: float
    """Seconds that the run has spent when this phase ends; the first phases go first."""
    noise_skew: float
    """Timesteps are drawn as 1000 u^skew: below 1 strong noise, where the text decides, is
    drawn more often."""


@dataclass(slots=True)
class DenoiserRun:
    """Everything that a checkpoint holds, on its device."""

    unet: UNet2DConditionModel
    """As it is trained."""
    average: UNet2DConditionModel
    """The same, averaged over the last steps: what is exported."""
    optimizer: torch.optim.AdamW
    step: int = 0
    spent_s: float = 0.0
    alphas: torch.Tensor = field(default_factory=lambda: DDPMScheduler(**SCHEDULE).alphas_cumprod)
    """(1000,) share of signal in the variance at each timestep."""

    @property
    def device(self) -> torch.device:
        """Return where the weights are."""
        return self.unet.device


def fresh_unet() -> UNet2DConditionModel:
    """Return a denoiser that has learnt nothing, the same on every machine."""
    torch.manual_seed(0)
    unet = build_unet()
    nn.init.zeros_(unet.add_embedding.norm2.weight)  # the pooled text comes in softly
    return unet


def start_run(unet: UNet2DConditionModel, device: torch.device) -> DenoiserRun:
    """Return a run at step 0."""
    unet = unet.to(device).train()
    if device.type == "cpu":
        # Fused attention of small heads is slower here than the plain products it replaces.
        unet.set_attn_processor(AttnProcessor())
    average = deepcopy(unet).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        unet.parameters(), PEAK_LEARNING_RATE, (0.9, 0.99), weight_decay=0.01, fused=True
    )
    return DenoiserRun(unet, average, optimizer)


def train_denoiser(
    run: DenoiserRun, load: Callable[[str], Latents], path: Path, phases: list[Phase]
) -> None:
    """Train through the phases that are left; fresh shards are seen after every checkpoint."""
    workers = Workers()
    for phase in phases:
        if run.spent_s < phase.until_s:
            _log.info("phase %s", phase)
            _train_phase(run, load, path, phase, phases[-1].until_s, workers)


def _train_phase(
    run: DenoiserRun,
    load: Callable[[str], Latents],
    path: Path,
    phase: Phase,
    end_s: float,
    workers: Workers,
) -> None:
    latents, told, saved = load(phase.size), [], time.monotonic()
    began, finished = saved - run.spent_s, False
    while not finished:
        batch = draw_batch(run, latents, phase, workers)
        told.append(train_step(run, batch, run.spent_s / end_s))
        run.spent_s = time.monotonic() - began
        finished = workers.after_step(run.unet, run.spent_s >= phase.until_s)
        if run.step % 100 == 0:
            _log.info("step %d, %.0f s, loss %.4f", run.step, run.spent_s, sum(told) / len(told))
            told.clear()
        if time.monotonic() - saved > CHECKPOINT_S:
            if workers.leads:
                save_run(run, path)
            latents, saved = load(phase.size), time.monotonic()
    if workers.leads:
        save_run(run, path)


def train_step(run: DenoiserRun, batch: tuple[torch.Tensor, ...], progress: float) -> float:
    """Do one step and return its loss; `progress`, 0 to 1, sets the learning rate."""
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(run.step, progress)
    loss = denoising_loss(run, *batch)
    loss.backward()
    nn.utils.clip_grad_norm_(run.unet.parameters(), 1.0)
    run.optimizer.step()
    run.optimizer.zero_grad()
    run.step += 1
    if run.step % AVERAGE_EVERY == 0:
        _update_average(run)
    return loss.item()


def learning_rate(step: int, progress: float) -> float:
    """Warm up over the first steps, then fall linearly to a hundredth with the time spent."""
    return PEAK_LEARNING_RATE * min(1.0, (step + 1) / WARM_UP_STEPS) * max(0.01, 1 - progress)


def denoising_loss(
    run: DenoiserRun,
    clean: torch.Tensor,
    states: torch.Tensor,
    timesteps: torch.Tensor,
    noise: torch.Tensor,
) -> torch.Tensor:
    """Return the weighted error of the predicted velocity, a scalar."""
    share = run.alphas.to(clean.device)[timesteps].view(-1, 1, 1, 1)
    noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
    velocity = share.sqrt() * noise - (1 - share).sqrt() * clean
    with torch.autocast(clean.device.type, torch.bfloat16):
        predicted = run.unet(noisy, timesteps, states).sample
    # Below the cap all weigh the same: in the strongest noise only the text tells the colours, and
    # min-SNR's own weight, which falls to nothing there, left them unlearnt after 1000 steps.
    weight = (SNR_CAP * (1 - share.flatten())).clamp(max=1.0)
    return (weight * (predicted.float() - velocity).square().mean((1, 2, 3))).mean()


def draw_batch(
    run: DenoiserRun, latents: Latents, phase: Phase, workers: Workers
) -> tuple[torch.Tensor, ...]:
    """Draw what step number `run.step` sees: the same however often the run was interrupted."""
    draw = torch.Generator().manual_seed(run.step * workers.count + workers.rank)
    chosen = torch.randint(len(latents), (phase.batch,), generator=draw)
    clean, states = latents.look_up(np.asarray(chosen))
    empty = torch.rand(phase.batch, generator=draw) < EMPTY_CAPTIONS
    states[empty] = torch.from_numpy(latents.empty).float()
    where = torch.rand(phase.batch, generator=draw) ** phase.noise_skew
    timesteps = (where * len(run.alphas)).long()
    noise = torch.randn(clean.shape, generator=draw)
    return tuple(tensor.to(run.device) for tensor in (clean, states, timesteps, noise))


@torch.no_grad()
def _update_average(run: DenoiserRun) -> None:
    updates = run.step / AVERAGE_EVERY
    decay = min(0.999, (1 + updates) / (10 + updates))
    torch._foreach_lerp_(list(run.average.parameters()), list(run.unet.parameters()), 1 - decay)


def save_run(run: DenoiserRun, path: Path) -> None:
    """Write the run to one file."""
    save_training(path, run, run.unet, run.average)
    _log.info("saved step %d", run.step)


def load_run(run: DenoiserRun, path: Path) -> DenoiserRun:
    """Bring a fresh run to where `save_run` left it."""
    load_training(path, run, run.unet, run.average)
    return run
