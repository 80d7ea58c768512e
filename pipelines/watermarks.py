"""Keeps DeepFloyd IF's watermark in what is drawn over its pictures, as its licence asks."""

from __future__ import annotations

from PIL import Image

MARK, MARGIN = 62, 14
"""px of the mark and of what is beside and below it, in a picture of 1024 x 1024."""


def mark_box(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where the mark lies in a picture of that size: left, top, right, bottom, in px.

    As diffusers' IFWatermarker puts it there.
    """
    width, height = size
    scale = (width * height) ** 0.5 / 1024
    right, bottom = width - int(MARGIN * scale), height - int(MARGIN * scale)
    return right - int(MARK * scale), bottom - int(MARK * scale), right, bottom


def keep_mark(drawn: Image.Image, marked: Image.Image) -> Image.Image:
    """Put the corner with the mark of one RGB picture where it belongs in another."""
    box = mark_box(drawn.size)
    corner = marked.convert("RGB").crop(mark_box(marked.size))
    size = (box[2] - box[0], box[3] - box[1])
    kept = drawn.copy()
    kept.paste(corner.resize(size, Image.Resampling.LANCZOS), box[:2])
    return kept
