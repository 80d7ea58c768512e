"""Pictures that a drawing starts from: fitted to its size, masked, continued beyond their edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

if TYPE_CHECKING:
    from studio.request import GenerationRequest

FEATHER = 1 / 64
"""Share of the longer side over which a pasted edge fades."""
UPSCALED_BY = 4


def start_pictures(
    request: GenerationRequest, images: Mapping[str, Image.Image]
) -> dict[str, Image.Image]:
    """The arguments `image`, and `mask_image` where there is a mask, of a pipeline's call."""
    if request.start is None:
        return {}
    shrunk = UPSCALED_BY if request.start.task == "upscaling" else 1
    size = (request.width // shrunk, request.height // shrunk)
    arguments = {"image": placed(request, images, size)}
    mask = mask_of(request, images, size)
    return arguments if mask is None else {**arguments, "mask_image": mask}


def placed(
    request: GenerationRequest, images: Mapping[str, Image.Image], size: tuple[int, int]
) -> Image.Image:
    """The picture to start from, RGB, (width, height) px: cut to that shape, not stretched.

    For outpainting it takes the place inside the margins, and is mirrored into them.
    """
    assert request.start is not None
    picture = images[request.start.picture].convert("RGB")
    left, top, right, below = _margins(request, size)
    inside = (size[0] - left - right, size[1] - top - below)
    pixels = np.asarray(ImageOps.fit(picture, inside, Image.Resampling.LANCZOS))
    return Image.fromarray(np.pad(pixels, ((top, below), (left, right), (0, 0)), "symmetric"))


def mask_of(
    request: GenerationRequest, images: Mapping[str, Image.Image], size: tuple[int, int]
) -> Image.Image | None:
    """What is drawn anew, white, as L of (width, height) px; None is all of it."""
    start = request.start
    if start is None or start.task not in ("inpainting", "outpainting"):
        return None
    if start.mask:
        mask = ImageOps.fit(images[start.mask].convert("L"), size, Image.Resampling.BILINEAR)
        return mask.point(lambda value: 255 if value >= 128 else 0)
    left, top, right, below = _margins(request, size)
    mask = Image.new("L", size, 255)
    mask.paste(0, (left, top, size[0] - right, size[1] - below))
    return mask


def paste_back(
    drawn: Image.Image, request: GenerationRequest, images: Mapping[str, Image.Image]
) -> Image.Image:
    """Give what the mask left alone its own pixels back; at the picture's own size, exactly.

    What was drawn fades in from the edge of the mask, inside of it.
    """
    mask = mask_of(request, images, drawn.size)
    if mask is None:
        return drawn
    radius = max(1, round(max(drawn.size) * FEATHER))
    inner = mask.filter(ImageFilter.MinFilter(2 * radius + 1))
    soft = ImageChops.darker(inner.filter(ImageFilter.BoxBlur(radius)), mask)
    return Image.composite(drawn.convert("RGB"), placed(request, images, drawn.size), soft)


def _margins(request: GenerationRequest, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, above, right, below, in px of a picture of `size` instead of the request's."""
    assert request.start is not None
    left, top, right, below = request.start.margins
    across, down = size[0] / request.width, size[1] / request.height
    return round(left * across), round(top * down), round(right * across), round(below * down)
