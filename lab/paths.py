"""Paths from noise to picture, drawn by a guided denoiser: what the four-step one learns from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import DDPMScheduler

from lab.latents import Latents
from lab.networks import SCHEDULE

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

STEPS = 4
"""Steps that the pupil takes: it sees a path only where they begin and end."""
SUBSTEPS = 4
"""Steps that the teacher takes for one of the pupil's."""
GUIDANCE = 4.0
BATCH = 32

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Paths:
    """What a guided denoiser drew."""

    numbers: np.ndarray
    """(N,) int64: the picture of the corpus whose caption each path follows."""
    points: np.ndarray
    """(N, 5, C, S, S) float16: latents before the first step, between two, and after the last."""

    def __len__(self) -> int:
        return len(self.numbers)


@cache
def step_angles(steps: int = STEPS) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (steps,) timesteps, and the angles at which each step begins and ends.

    At angle a the latents are cos(a) signal + sin(a) noise; a step by `d` along the velocity v
    turns them to cos(d) x + sin(d) v, which is what DDIM and Euler do. Timesteps trail, as in
    https://arxiv.org/abs/2305.08891.
    """
    alphas = DDPMScheduler(**SCHEDULE).alphas_cumprod
    timesteps = torch.arange(len(alphas), 0, -len(alphas) / steps).round().long() - 1
    begin = alphas[timesteps].sqrt().acos()
    return timesteps, begin, torch.cat([begin[1:], torch.zeros(1)])


@torch.inference_mode()
def draw_paths(
    unet: UNet2DConditionModel, latents: Latents, count: int, seed: int, guidance: float = GUIDANCE
) -> Paths:
    """Draw `count` paths for captions of the corpus, the same for the same seed."""
    draw = np.random.default_rng(seed)
    numbers, points = draw.integers(0, len(latents), count), []
    for start in range(0, count, BATCH):
        chosen = numbers[start : start + BATCH]
        clean, states = latents.look_up(chosen)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed + start))
        empty = torch.from_numpy(latents.empty).float().expand_as(states)
        texts = torch.stack([empty, states]).to(unet.device)
        points.append(_follow(unet, noise.to(unet.device), texts, guidance).cpu().numpy())
        _log.info("drew %d paths", start + len(chosen))
    return Paths(numbers, np.concatenate(points))


def _follow(
    unet: UNet2DConditionModel, noise: torch.Tensor, texts: torch.Tensor, guidance: float
) -> torch.Tensor:
    """Follow (B, C, S, S) noise to the end; return (B, 5, C, S, S), half precision."""
    latents, kept = noise, [noise]
    for number, (timestep, now, then) in enumerate(
        zip(*step_angles(STEPS * SUBSTEPS), strict=True)
    ):
        with torch.autocast(noise.device.type, torch.bfloat16):
            both = unet(latents.repeat(2, 1, 1, 1), timestep.to(noise.device), texts.flatten(0, 1))
        without, with_text = both.sample.float().chunk(2)
        velocity = without + guidance * (with_text - without)
        turn = (then - now).to(noise.device)
        latents = turn.cos() * latents + turn.sin() * velocity
        if number % SUBSTEPS == 0:
            kept.append(latents)
    return torch.stack(kept, 1).half()


def save_paths(paths: Paths, path: Path) -> None:
    """Write paths to one file."""
    fresh = path.with_suffix(".new.npz")
    np.savez(fresh, numbers=paths.numbers, points=paths.points)
    fresh.replace(path)


def load_paths(folder: Path) -> Paths:
    """Return the paths of every file in a folder."""
    files = [np.load(path, allow_pickle=False) for path in sorted(folder.glob("paths-*.npz"))]
    return Paths(
        np.concatenate([file["numbers"] for file in files]),
        np.concatenate([file["points"] for file in files]),
    )
