"""Train the autoencoder, then bring its latents to mean 0 and deviation 1."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from lab.latents import encode, to_pixels
from lab.networks import build_autoencoder
from lab.perceptual import PERCEPTUAL_WEIGHT, PerceptualLoss
from lab.store import load_training, save_training

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

BATCH = 20
CROP = 32
"""Side of the square that a step sees, px: four times as many pictures in the same time."""
PEAK_LEARNING_RATE = 1e-3
KL_WEIGHT = 4e-5
CHECKPOINT_S = 150.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class AutoencoderRun:
    """Everything that a checkpoint holds, on its device."""

    autoencoder: AutoencoderKL
    optimizer: torch.optim.AdamW
    perceive: PerceptualLoss
    step: int = 0
    spent_s: float = 0.0


def start_run(device: torch.device) -> AutoencoderRun:
    """Return a run at step 0."""
    torch.manual_seed(0)
    autoencoder = build_autoencoder().to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(
        autoencoder.parameters(), PEAK_LEARNING_RATE, (0.9, 0.99), weight_decay=1e-4
    )
    return AutoencoderRun(autoencoder, optimizer, PerceptualLoss().to(device))


def train_autoencoder(run: AutoencoderRun, images: np.ndarray, path: Path, until_s: float) -> None:
    """Train on (N, 64, 64, 3) uint8 pictures until the run has spent `until_s`."""
    saved = time.monotonic()
    began = saved - run.spent_s
    while run.spent_s < until_s:
        loss = train_step(run, images, run.spent_s / until_s)
        run.spent_s = time.monotonic() - began
        if run.step % 200 == 0:
            _log.info("step %d, %.0f s, loss %.4f", run.step, run.spent_s, loss)
        if time.monotonic() - saved > CHECKPOINT_S:
            save_run(run, path)
            saved = time.monotonic()
    save_run(run, path)


def train_step(run: AutoencoderRun, images: np.ndarray, progress: float) -> float:
    """Do one step and return its loss; `progress`, 0 to 1, sets the learning rate."""
    for group in run.optimizer.param_groups:
        group["lr"] = (
            PEAK_LEARNING_RATE * min(1.0, (run.step + 1) / 100) * (1 - progress) ** 0.9 + 1e-5
        )
    draw = np.random.default_rng((0, run.step))
    top, left = draw.integers(0, (images.shape[1] - CROP) // 4 + 1, 2) * 4
    chosen = np.sort(draw.integers(0, len(images), BATCH))
    pixels = to_pixels(images[chosen, top : top + CROP, left : left + CROP], run.autoencoder.device)
    loss = reconstruction_loss(run, pixels, torch.Generator().manual_seed(run.step))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.autoencoder.parameters(), 1.0)
    run.optimizer.step()
    run.optimizer.zero_grad()
    run.step += 1
    return loss.item()


def reconstruction_loss(
    run: AutoencoderRun, pixels: torch.Tensor, draw: torch.Generator
) -> torch.Tensor:
    """Return absolute, squared and perceptual error and a whisper of KL, a scalar."""
    with torch.autocast(pixels.device.type, torch.bfloat16):
        posterior = run.autoencoder.encode(pixels).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=draw).to(pixels.device)
        rebuilt = run.autoencoder.decode(posterior.mean + posterior.std * noise).sample.float()
    mean, log_variance = posterior.mean.float(), posterior.logvar.float()
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    return (
        functional.l1_loss(rebuilt, pixels)
        + functional.mse_loss(rebuilt, pixels)
        + PERCEPTUAL_WEIGHT * run.perceive(rebuilt, pixels)
        + KL_WEIGHT * divergence
    )


@torch.no_grad()
def standardise(autoencoder: AutoencoderKL, images: np.ndarray) -> None:
    """Rescale the latents to mean 0 and deviation 1 per channel, without changing a picture.

    The factors go into the two 1 x 1 convolutions around the latents, because diffusers'
    `scaling_factor` is one number and knows no mean.
    """
    latents = encode(autoencoder, images).astype(np.float32)
    device = autoencoder.device
    mean = torch.tensor(latents.mean((0, 2, 3)), device=device)
    spread = torch.tensor(latents.std((0, 2, 3)), device=device)
    into, out = autoencoder.quant_conv, autoencoder.post_quant_conv
    channels = len(mean)
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= spread[None, :, None, None]
    into.weight[:channels] /= spread[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) / spread
    into.bias[channels:] -= 2 * spread.log()


@torch.inference_mode()
def reconstruction_psnr(autoencoder: AutoencoderKL, images: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of reconstructed pictures, dB."""
    errors = []
    for start in range(0, len(images), BATCH):
        pixels = to_pixels(images[start : start + BATCH], autoencoder.device)
        rebuilt = autoencoder.decode(autoencoder.encode(pixels).latent_dist.mean).sample.clamp(
            -1, 1
        )
        errors.append((rebuilt - pixels).square().mean((1, 2, 3)))
    return float(10 * torch.log10(4 / torch.cat(errors).mean()))


def save_run(run: AutoencoderRun, path: Path) -> None:
    """Write the run to one file."""
    save_training(path, run, run.autoencoder)


def load_run(run: AutoencoderRun, path: Path) -> AutoencoderRun:
    """Bring a fresh run to where `save_run` left it."""
    load_training(path, run, run.autoencoder)
    return run
