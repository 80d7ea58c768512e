"""Control pictures: what a ControlNet follows, made of any picture.

White on black for edges and lines, near is bright for depth, as the networks were taught.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps

if TYPE_CHECKING:
    from studio.request import GenerationRequest

LOW, HIGH = 0.1, 0.2
"""Canny's two thresholds of a slope in [0, 1]: weaker ones count beside stronger ones only."""
CANNY_BLUR = 1.4
LINE_BLURS = (1.0, 2.5)
"""px of the two blurs whose difference shows lines (XDoG, Winnemoeller et al. 2012)."""
LINE_GAIN = 12.0


def control_picture(
    kind: str, picture: Image.Image, size: tuple[int, int], *, is_ready: bool, depth: Any = None
) -> Image.Image:
    """The RGB picture of (width, height) px that is followed; cut to that shape, not stretched.

    Args:
        kind: one of `studio.ingredients.CONTROLS`.
        is_ready: the picture shows edges, lines, depth or areas already.
        depth: an estimator, see `pipelines.guides`, for depth of a picture that is not ready.
    """
    how = Image.Resampling.NEAREST if kind == "segmentation" else Image.Resampling.LANCZOS
    fitted = ImageOps.fit(picture.convert("RGB"), size, how)
    if is_ready or kind == "segmentation":
        return fitted
    made = {"canny": edges, "line": lines}.get(kind)
    return (depth.estimate(fitted) if made is None else made(fitted)).convert("RGB")


def made_here(kind: str, picture: Image.Image) -> Image.Image:
    """What of a picture is followed as "canny" or "line", of its own size."""
    return control_picture(kind, picture, picture.size, is_ready=False)


def guide_arguments(
    request: GenerationRequest, images: Mapping[str, Image.Image]
) -> dict[str, Any]:
    """What a pipeline's call is told of the pictures that are followed; {} if there are none."""
    given: dict[str, Any] = {}
    control, reference = request.control, request.reference
    if control is not None:
        size = (request.width, request.height)
        name = "image" if request.start is None else "control_image"
        given[name] = control_picture(
            control.kind, images[control.picture], size, is_ready=control.is_ready
        )
        given["controlnet_conditioning_scale"] = float(control.weight)
    if reference is not None:
        given["ip_adapter_image"] = images[reference.picture].convert("RGB")
    return given


def edges(picture: Image.Image) -> Image.Image:
    """Thin white edges on black (Canny 1986), L."""
    from skimage.feature import canny

    grey = np.asarray(picture.convert("L"), dtype=np.float32) / 255
    found = canny(grey, sigma=CANNY_BLUR, low_threshold=LOW, high_threshold=HIGH, mode="nearest")
    return Image.fromarray(found.astype(np.uint8) * 255)


def lines(picture: Image.Image) -> Image.Image:
    """White lines on black, as strong as they are dark against what surrounds them, L.

    Of a line drawing it is the drawing itself, inverted.
    """
    grey = picture.convert("L")
    narrow, wide = (
        np.asarray(grey.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255
        for radius in LINE_BLURS
    )
    darker = np.clip((wide - narrow) * LINE_GAIN, 0, 1)
    return Image.fromarray((darker * 255).round().astype(np.uint8))
