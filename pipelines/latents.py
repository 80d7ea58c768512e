"""How the latents of each autoencoder are held by the pipelines: scaled, shifted and packed."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    VQModel,
)

AUTOENCODERS = (AutoencoderKL, VQModel, AutoencoderDC, AutoencoderKLFlux2, AutoencoderKLQwenImage)
"""The classes that this module knows."""

PATCH = 2
"""FLUX and Qwen-Image make one token of 2 x 2 latents."""


def factor_of(vae: Any) -> int:
    """How many px wide and high one latent is."""
    ratio = getattr(vae, "spatial_compression_ratio", None)
    return ratio or 2 ** (len(vae.config.block_out_channels) - 1)


def encode(vae: Any, picture: torch.Tensor) -> torch.Tensor:
    """The autoencoder's own latents (1, C, h, w) of a picture (1, 3, H, W) in [-1, 1]."""
    if isinstance(vae, AutoencoderKLQwenImage):  # of films: this one has one picture
        return vae.encode(picture[:, :, None]).latent_dist.mode()[:, :, 0]
    encoded = vae.encode(picture)
    if isinstance(vae, VQModel):
        return encoded.latents
    return encoded.latent if isinstance(vae, AutoencoderDC) else encoded.latent_dist.mode()


def scale_of(vae: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean and the spread by which a pipeline normalises the autoencoder's own latents.

    Both are (C or 1, p, p), float32 on the CPU; p is 2 where the places in a token differ, else 1.
    """
    config = vae.config
    if isinstance(vae, AutoencoderKLFlux2):
        variance = vae.bn.running_var + config.batch_norm_eps
        return _column(vae.bn.running_mean, PATCH), _column(variance.sqrt(), PATCH)
    if isinstance(vae, AutoencoderKLQwenImage):
        return _column(config.latents_mean), _column(config.latents_std)
    if isinstance(vae, VQModel):  # Kandinsky's; its factor in the config is not used
        return _column([0.0]), _column([1.0])
    return _column([getattr(config, "shift_factor", None) or 0.0]), _column(
        [1 / config.scaling_factor]
    )


def _column(values: Any, side: int = 1) -> torch.Tensor:
    return torch.as_tensor(values).detach().float().cpu().reshape(-1, side, side)


def unpack(tokens: torch.Tensor, aspect: float) -> torch.Tensor:
    """Lay tokens (L, 4 C) out as latents (C, h, w).

    Args:
        aspect: width by height of the picture.
    """
    length, numbers = tokens.shape
    possible = (rows for rows in range(1, length + 1) if length % rows == 0)
    rows = min(possible, key=lambda rows: abs(length / rows - aspect * rows))
    blocks = tokens.reshape(rows, -1, numbers // PATCH**2, PATCH, PATCH)
    return blocks.permute(2, 0, 3, 1, 4).reshape(len(blocks[0, 0]), PATCH * rows, -1)
