"""Seamless pictures: every convolution sees the opposite edge where it would see zeros.

Circular padding, per axis. Attention and group norm know no edges, so a picture whose every
convolution wraps repeats without a seam.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.models.downsampling import Downsample2D
from torch import nn
from torch.nn import functional

from pipelines.twins import twin_of

AXES = {"none": (False, False), "x": (True, False), "y": (False, True), "both": (True, True)}
"""Whether a tiling of `studio.request.TILINGS` wraps (sideways, up and down)."""

MARGIN = 8
"""Latents that a decoder in tiles sees beyond an edge; nobody draws fewer than that."""


@contextmanager
def seamless(pipeline: DiffusionPipeline, tiling: str, *, in_tiles: bool) -> Iterator[None]:
    """Let the modules of a pipeline wrap inside the block; they are shared, and get back as is.

    Args:
        tiling: one of `AXES`.
        in_tiles: the VAE decodes in tiles. A tile must not wrap into itself, so the latents are
            continued beyond their edges instead.
    """
    if tiling == "none":
        yield
        return
    with ExitStack() as stack:
        for part in pipeline.components.values():
            if part is pipeline.vae and in_tiles:
                stack.enter_context(_replaced(part, "decode", _beyond_edges(part.decode, tiling)))
            elif isinstance(part, nn.Module):
                for conv, forward in _wrapping(part, tiling):
                    stack.enter_context(_replaced(conv, "_conv_forward", forward))
        yield


def wrapping_twins(pipeline: DiffusionPipeline, tiling: str) -> dict[str, nn.Module]:
    """The modules of a pipeline that look beyond edges, as twins that always wrap.

    For jobs that are drawn side by side, where nothing may be done to what they share.
    """
    twins = {}
    for name in ("unet", "vae"):
        twin = twin_of(pipeline.components[name])
        for conv, forward in _wrapping(twin, tiling):
            conv._conv_forward = forward
        twins[name] = twin
    return twins


def pad(
    picture: torch.Tensor, sides: tuple[int, int, int, int], tiling: str, mode: str = "constant"
) -> torch.Tensor:
    """Continue (B, C, H, W) by `sides` (left, right, top, bottom): wrapped, or else by `mode`."""
    across, down = AXES[tiling]
    left, right, top, bottom = sides
    picture = functional.pad(picture, (left, right, 0, 0), "circular" if across else mode)
    return functional.pad(picture, (0, 0, top, bottom), "circular" if down else mode)


def picture_multiple(pipeline: DiffusionPipeline) -> int:
    """The px of which a side must be a multiple so that every scale of the U-Net wraps exactly."""
    return pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)


def _wrapping(part: nn.Module, tiling: str) -> Iterator[tuple[nn.Conv2d, Callable[..., Any]]]:
    """Each convolution of a module that looks beyond edges, and what it does instead."""
    lopsided = {
        layer.conv
        for layer in part.modules()
        if isinstance(layer, Downsample2D) and layer.use_conv and layer.padding == 0
    }
    for layer in part.modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        if layer in lopsided:
            yield layer, _forward(layer, (0, 1, 0, 1), tiling, cut=True)
        elif any(sides := tuple(layer._reversed_padding_repeated_twice)):
            yield layer, _forward(layer, sides, tiling, cut=False)


def _forward(
    conv: nn.Conv2d, sides: tuple[int, ...], tiling: str, *, cut: bool
) -> Callable[..., torch.Tensor]:
    """Make `conv`'s forward for padded input. `cut`: its caller has added a row and a column of
    zeros at the end, as diffusers' `Downsample2D` without padding does; they come off first."""

    def forward(
        features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        inner = features[:, :, :-1, :-1] if cut else features
        padded = pad(inner, sides, tiling)
        return functional.conv2d(padded, weight, bias, conv.stride, 0, conv.dilation, conv.groups)

    return forward


def _beyond_edges(decode: Callable[..., Any], tiling: str) -> Callable[..., Any]:
    """Make a VAE's `decode` that sees `MARGIN` latents of the opposite edge; returns a tuple."""
    across, down = (MARGIN * wraps for wraps in AXES[tiling])

    @functools.wraps(decode)
    def decode_beyond(latents: torch.Tensor, **options: Any) -> tuple[torch.Tensor]:
        padded = pad(latents, (across, across, down, down), tiling)
        large = decode(padded, **options)[0]  # (B, 3, H, W)
        factor = large.shape[3] // padded.shape[3]
        height, width = (factor * side for side in latents.shape[2:])
        top, left = factor * down, factor * across
        return (large[:, :, top : top + height, left : left + width],)

    return decode_beyond


@contextmanager
def _replaced(module: nn.Module, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Put a function in a module's place for a method inside the block."""
    before = vars(module).get(name)
    setattr(module, name, function)
    try:
        yield
    finally:
        if before is None:
            delattr(module, name)
        else:
            setattr(module, name, before)
