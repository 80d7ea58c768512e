"""Distil the denoiser into one that draws in four steps, without guidance.

The pupil learns to reach in one step what its teacher, guided, reaches in several: progressive
distillation (https://arxiv.org/abs/2202.00512) in one stage, on paths that the teacher has drawn
from noise to picture (https://arxiv.org/abs/2210.03142 for the guidance). What it has learnt is
kept as a LoRA of low rank.
"""

from __future__ import annotations

import logging
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import nn

from lab.latents import Latents
from lab.paths import STEPS, Paths, step_angles
from lab.store import load_training, save_training

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

BATCH = 32
PEAK_LEARNING_RATE = 3e-4
WARM_UP_STEPS = 100
AVERAGE = 0.998
CHECKPOINT_S = 120.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class FastRun:
    """Everything that a checkpoint holds, on its device."""

    unet: UNet2DConditionModel
    average: UNet2DConditionModel
    optimizer: torch.optim.AdamW
    step: int = 0
    spent_s: float = 0.0


def start_run(teacher: UNet2DConditionModel, device: torch.device) -> FastRun:
    """Return a run at step 0: the pupil begins as its teacher, and only its matrices learn."""
    unet = deepcopy(teacher).to(device).train().requires_grad_(False)
    for module in matrices(unet).values():
        module.weight.requires_grad_(True)
    if device.type == "cpu":
        unet.set_attn_processor(AttnProcessor())
    average = deepcopy(unet).requires_grad_(False)
    learning = [weight for weight in unet.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        learning, PEAK_LEARNING_RATE, (0.9, 0.99), weight_decay=0.0, fused=True
    )
    return FastRun(unet, average, optimizer)


def matrices(unet: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that a LoRA can change: every linear one and every convolution."""
    return {
        name: module
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }


def train_fast(run: FastRun, latents: Latents, paths: Paths, path: Path, until_s: float) -> None:
    """Train until the run has spent `until_s`."""
    began, saved, told = time.monotonic() - run.spent_s, time.monotonic(), []
    while run.spent_s < until_s:
        told.append(train_step(run, latents, paths, run.spent_s / until_s))
        run.spent_s = time.monotonic() - began
        if run.step % 100 == 0:
            _log.info("fast %d, %.0f s, loss %.4f", run.step, run.spent_s, np.mean(told))
            told.clear()
        if time.monotonic() - saved > CHECKPOINT_S:
            save_run(run, path)
            saved = time.monotonic()
    save_run(run, path)


def train_step(run: FastRun, latents: Latents, paths: Paths, progress: float) -> float:
    """Do one step and return its loss; `progress`, 0 to 1, sets the learning rate."""
    for group in run.optimizer.param_groups:
        warm = min(1.0, (run.step + 1) / WARM_UP_STEPS)
        group["lr"] = PEAK_LEARNING_RATE * warm * max(0.01, 1 - progress)
    loss = step_loss(run, latents, paths)
    loss.backward()
    nn.utils.clip_grad_norm_(run.optimizer.param_groups[0]["params"], 1.0)
    run.optimizer.step()
    run.optimizer.zero_grad()
    run.step += 1
    decay = min(AVERAGE, (1 + run.step) / (10 + run.step))
    with torch.no_grad():
        torch._foreach_lerp_(list(run.average.parameters()), list(run.unet.parameters()), 1 - decay)
    return loss.item()


def step_loss(run: FastRun, latents: Latents, paths: Paths) -> torch.Tensor:
    """Return the error of the velocity that leads from one point of a path to the next."""
    draw = np.random.default_rng((5, run.step))
    rows, legs = draw.integers(0, len(paths), BATCH), draw.integers(0, STEPS, BATCH)
    device = run.unet.device
    here, there = (
        torch.from_numpy(paths.points[rows, legs + far].astype(np.float32)).to(device)
        for far in (0, 1)
    )
    timesteps, now, then = (part[legs].to(device) for part in step_angles())
    turn = (then - now).view(-1, 1, 1, 1)
    wanted = (there - turn.cos() * here) / turn.sin()
    states = latents.look_up(paths.numbers[rows])[1].to(device)
    with torch.autocast(device.type, torch.bfloat16):
        velocity = run.unet(here, timesteps, states).sample
    return (velocity.float() - wanted).square().mean()


def save_run(run: FastRun, path: Path) -> None:
    """Write the run to one file."""
    save_training(path, run, run.unet, run.average)


def load_run(run: FastRun, path: Path) -> FastRun:
    """Bring a fresh run to where `save_run` left it."""
    load_training(path, run, run.unet, run.average)
    return run
