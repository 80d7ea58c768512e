"""Builds small random-weight checkpoints with the classes and the config shape of SD-2 on disk."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from tiny_families import parts


def save_tiny_checkpoint(
    folder: Path, *, seed: int = 0, vae_blocks: int = 2, latent_side: int = 16
) -> Path:
    """Save a checkpoint that `StableDiffusionPipeline.from_pretrained(folder)` loads.

    Args:
        folder: made if it is missing.
        seed: other seeds give other weights.
        vae_blocks: 2, 3, 4 give VAE factors of 2, 4, 8 (SD-2 has 8).
        latent_side: the UNet's `sample_size`.
    """
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = StableDiffusionPipeline(
        vae=parts.vae(vae_blocks),
        text_encoder=parts.text_encoder(),
        tokenizer=parts.tokenizer(folder),
        unet=parts.unet(sample_size=latent_side),
        scheduler=_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def _scheduler() -> DDIMScheduler:
    """The scheduler folder of the 768-px SD-2 checkpoint."""
    return DDIMScheduler(
        **parts.BETAS, clip_sample=False, set_alpha_to_one=False, prediction_type="v_prediction"
    )
