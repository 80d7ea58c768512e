"""Go on with the decoder alone, while latents that are already cached stay valid."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from lab.latents import to_pixels
from lab.perceptual import PERCEPTUAL_WEIGHT, PerceptualLoss

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

BATCH = 8
PEAK_LEARNING_RATE = 6e-4
SAVE_S = 240.0
LATENT_NOISE = 0.05
"""Deviation of noise put on the latents: drawn ones are never as clean as encoded ones."""

_log = logging.getLogger(__name__)


def refine_decoder(
    autoencoder: AutoencoderKL,
    pairs: list[tuple[np.ndarray, np.ndarray]],
    folder: Path,
    seconds: float,
) -> None:
    """Train the decoder on (latents, pictures) of every shard, and save to `folder` as it goes."""
    parameters = [*autoencoder.post_quant_conv.parameters(), *autoencoder.decoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, PEAK_LEARNING_RATE, (0.9, 0.99), weight_decay=1e-4)
    perceive = PerceptualLoss().to(autoencoder.device)
    draw, began = np.random.default_rng(1), time.monotonic()
    step, spent, saved, losses = 0, 0.0, 0.0, []
    while spent < seconds:
        for group in optimizer.param_groups:
            group["lr"] = (
                PEAK_LEARNING_RATE * min(1.0, (step + 1) / 100) * (1.0 - spent / seconds) + 1e-6
            )
        losses.append(
            _step(autoencoder, optimizer, perceive, pairs[draw.integers(len(pairs))], draw)
        )
        step, spent = step + 1, time.monotonic() - began
        if step % 100 == 0:
            _log.info("decoder step %d, %.0f s, loss %.4f", step, spent, np.mean(losses[-100:]))
        if spent - saved > SAVE_S:
            autoencoder.save_pretrained(folder)
            saved = spent
    autoencoder.save_pretrained(folder)


def _step(
    autoencoder: AutoencoderKL,
    optimizer: torch.optim.Optimizer,
    perceive: PerceptualLoss,
    pair: tuple[np.ndarray, np.ndarray],
    draw: np.random.Generator,
) -> float:
    chosen = np.sort(draw.integers(0, len(pair[0]), BATCH))
    latents = torch.from_numpy(pair[0][chosen]).float().to(autoencoder.device)
    latents = latents + LATENT_NOISE * draw.random() * torch.randn_like(latents)
    pixels = to_pixels(pair[1][chosen], autoencoder.device)
    with torch.autocast(latents.device.type, torch.bfloat16):
        rebuilt = autoencoder.decode(latents).sample.float()
    loss = functional.l1_loss(rebuilt, pixels) + functional.mse_loss(rebuilt, pixels)
    loss = loss + PERCEPTUAL_WEIGHT * perceive(rebuilt, pixels)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()
