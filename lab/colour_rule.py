"""Decide by pixels alone whether a named colour is in a picture."""

from __future__ import annotations

import numpy as np

from lab.palette import COLOURS

LEAST_SHARE = 0.03
"""Share of the picture that a colour must cover to count as drawn."""
REACH = 16.0
"""Largest distance in CIELAB at which a pixel still carries the name of a colour."""


def to_lab(pixels: np.ndarray) -> np.ndarray:
    """Turn sRGB (..., 3) in [0, 255] into CIELAB with white D65."""
    linear = pixels / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    curved = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(curved, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def colour_shares(image: np.ndarray) -> dict[str, float]:
    """Return for every named colour the share of pixels, (H, W, 3) uint8, that carry its name.

    A pixel carries the name of the nearest colour, and of any other within reach: crimson is
    both red and close to maroon, and a person would accept either.
    """
    names = list(COLOURS)
    prototypes = to_lab(np.array([COLOURS[name] for name in names], float))
    pixels = to_lab(image.reshape(-1, 3).astype(float))
    distances = np.linalg.norm(pixels[:, None] - prototypes[None], axis=2)
    carried = distances <= np.maximum(distances.min(1, keepdims=True), REACH)
    return dict(zip(names, carried.mean(0), strict=True))


def has_colour(image: np.ndarray, name: str) -> bool:
    """Say whether the picture shows a named colour."""
    return colour_shares(image)[name] >= LEAST_SHARE
