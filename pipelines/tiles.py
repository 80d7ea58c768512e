"""Decoding where memory is short: in tiles, or with word of it to the caller."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import AutoencoderDC

from pipelines.device import OUT_OF_MEMORY_WORDS


@contextmanager
def decoding(vae: Any, in_tiles: bool) -> Iterator[None]:
    """Decode in tiles or whole inside the block: the VAE is shared, the next call gets it as is."""
    with _heard(vae), _same_dtype(vae):
        if not in_tiles or not hasattr(vae, "enable_tiling"):
            yield
            return
        vae.enable_tiling()
        try:
            yield
        finally:
            vae.disable_tiling()


@contextmanager
def _same_dtype(vae: Any) -> Iterator[None]:
    """Give back what SDXL's pipelines widen to decode, and leave so where memory runs out there.

    The next call would hand it numbers of another width, and fail.
    """
    dtype = getattr(vae, "dtype", None)
    try:
        yield
    finally:
        if dtype is not None and vae.dtype != dtype:
            vae.to(dtype)


@contextmanager
def _heard(vae: Any) -> Iterator[None]:
    """Let the caller hear that Sana's decoder ran out of memory.

    Its pipelines catch that error by its class, only warn, and then fail over the missing picture.
    """
    if not isinstance(vae, AutoencoderDC):
        yield
        return
    decode = vae.decode

    @functools.wraps(decode)
    def decode_aloud(*given: Any, **options: Any) -> Any:
        try:
            return decode(*given, **options)
        except torch.OutOfMemoryError as exc:
            raise RuntimeError(OUT_OF_MEMORY_WORDS[0]) from exc

    before = vars(vae).get("decode")
    vae.decode = decode_aloud
    try:
        yield
    finally:
        del vae.decode
        if before is not None:
            vae.decode = before
