"""Tiny autoencoders that keep colours, as trained ones do, without being trained for hours."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderDC, AutoencoderKLQwenImage, VQModel
from torch import nn
from torch.nn import functional

PICTURES = 4
BRANCH_ENDS = ("conv2", "to_out", "to_out.0", "proj", "conv_point")
"""Names of the layers with which residual blocks and attention end."""
MIXERS = ("encoder.conv_out", "decoder.conv_in")


def teach(vae: Any, side: int) -> None:
    """Let an autoencoder give back about the picture that it saw.

    Args:
        side: px of the pictures that it learns from; 16 latents or so.
    """
    _keep_colours(vae)
    _solve_last_layer(vae, soft_pictures(PICTURES, side))


@torch.no_grad()
def _keep_colours(vae: nn.Module) -> None:
    """Let branches add nothing, and every other layer pass on what it reads.

    Colours are mixed at random into latents. The last of four channels is always 3, so that they
    survive layers that divide by the size of all channels together.
    """
    generator = torch.Generator().manual_seed(0)
    for name, layer in vae.named_modules():
        if not isinstance(layer, (nn.Conv2d, nn.Conv3d, nn.Linear)):
            continue
        if name.endswith(BRANCH_ENDS):
            nn.init.zeros_(layer.weight)
        elif not isinstance(layer, nn.Linear):
            _set_middle(layer.weight, mixer=generator if name in MIXERS else None)
        if layer.bias is not None:
            layer.bias.zero_()
            if name.endswith("conv_in"):
                layer.bias[3::4] = 3.0


def _set_middle(kernel: torch.Tensor, mixer: torch.Generator | None) -> None:
    """Let a convolution look at one place alone, that of now if it sees several moments."""
    outputs, inputs, *sides = kernel.shape
    moments = sides[:-2] and [sides[0] - 1]
    middle = (slice(None), slice(None), *moments, *(side // 2 for side in sides[-2:]))
    kernel.zero_()
    mixed = torch.randn(outputs, inputs, generator=mixer) / inputs**0.5
    kernel[middle] = torch.eye(outputs, inputs) if mixer is None else mixed


@torch.inference_mode()
def _solve_last_layer(vae: Any, pictures: torch.Tensor) -> None:
    """Solve the decoder's last convolution, 3 x 3, by least squares."""
    last = vae.decoder.conv_out
    seen: list[torch.Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for picture in pictures:
        decode(vae, encode(vae, picture))
    hook.remove()
    features = torch.cat([one.reshape(1, -1, *one.shape[-2:]) for one in seen])
    columns = functional.unfold(features, 3, padding=1).movedim(1, -1).flatten(0, 1)
    columns = torch.cat([columns, torch.ones(len(columns), 1)], dim=1)
    targets = (2 * pictures - 1).flatten(2).movedim(1, -1).flatten(0, 1)
    solved = torch.linalg.lstsq(columns, targets, driver="gelsd").solution
    now = last.weight[:, :, -1] if last.weight.ndim == 5 else last.weight
    now.copy_(solved[:-1].T.reshape(3, -1, 3, 3))
    last.bias.copy_(solved[-1])


def soft_pictures(count: int, side: int, seed: int = 0) -> torch.Tensor:
    """Pictures (N, 3, side, side) in [0, 1] of colours that run into each other."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.rand(count, 3, 5, 5, generator=generator)
    return functional.interpolate(colours, (side, side), mode="bicubic").clamp(0, 1)


def encode(vae: Any, picture: torch.Tensor) -> torch.Tensor:
    """The autoencoder's own latents (1, C, h, w), or (1, C, 1, h, w), of a picture (3, H, W)."""
    batch = 2 * picture[None] - 1
    if isinstance(vae, AutoencoderKLQwenImage):
        batch = batch[:, :, None]
    encoded = vae.encode(batch, return_dict=False)[0]
    return encoded if isinstance(vae, (AutoencoderDC, VQModel)) else encoded.mode()


def decode(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """The picture (3, H, W), in [0, 1] but for errors, of those latents."""
    more = {"force_not_quantize": True} if isinstance(vae, VQModel) else {}
    decoded = vae.decode(latents, **more, return_dict=False)[0][0]
    return (decoded[:, 0] if isinstance(vae, AutoencoderKLQwenImage) else decoded) / 2 + 0.5
