"""A supersampled drawing surface with coordinates from 0 to 100."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

from lab.example import SIZE
from lab.palette import Rgb

OVERSAMPLING = 4
SIDE = SIZE * OVERSAMPLING
_SCALE = SIDE / 100

Point = tuple[float, float]


class Canvas:
    """Draw shapes in percent of the picture; (0, 0) is the top left corner."""

    def __init__(self, ground: Rgb | int = (255, 255, 255), mode: str = "RGB") -> None:
        self.picture = Image.new(mode, (SIDE, SIDE), ground)
        self._draw = ImageDraw.Draw(self.picture)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Rgb | int) -> None:
        """Fill a rectangle; one that is turned inside out draws nothing."""
        if right > left and bottom > top:
            self._draw.rectangle(_scaled(left, top, right, bottom), fill)

    def rounded(
        self, left: float, top: float, right: float, bottom: float, fill: Rgb | int
    ) -> None:
        """Fill a rectangle with soft corners."""
        if right > left and bottom > top:
            self._draw.rounded_rectangle(_scaled(left, top, right, bottom), 10, fill)

    def disc(self, x: float, y: float, radius: float, fill: Rgb | int, squash: float = 1.0) -> None:
        """Fill an ellipse around a centre; `squash` is its height over its width."""
        tall = radius * squash
        self._draw.ellipse(_scaled(x - radius, y - tall, x + radius, y + tall), fill)

    def polygon(self, points: Iterable[Point], fill: Rgb | int) -> None:
        """Fill a polygon."""
        self._draw.polygon([(x * _SCALE, y * _SCALE) for x, y in points], fill)

    def line(self, points: Iterable[Point], fill: Rgb | int, width: float = 1.0) -> None:
        """Draw a poly-line of a width in percent."""
        spots = [(x * _SCALE, y * _SCALE) for x, y in points]
        self._draw.line(spots, fill, max(1, round(width * _SCALE)), joint="curve")

    def gradient(self, top: Rgb, bottom: Rgb, until: float = 100.0) -> None:
        """Fill the canvas down to `until` with a vertical gradient."""
        rows = round(until * _SCALE)
        ramp = np.linspace(0, 1, rows)[:, None, None]
        band = (np.asarray(top) * (1 - ramp) + np.asarray(bottom) * ramp).astype(np.uint8)
        self.picture.paste(Image.fromarray(np.repeat(band, SIDE, axis=1)), (0, 0))

    def finish(self) -> np.ndarray:
        """Return the picture as (64, 64, 3) uint8, or (64, 64) for a mask."""
        return np.asarray(self.picture.reduce(OVERSAMPLING))


def _scaled(*values: float) -> list[float]:
    return [value * _SCALE for value in values]
