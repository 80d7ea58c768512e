"""Places and skies that stand behind buildings and objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lab.canvas import Canvas
from lab.palette import Rgb, jitter, shade

Foreground = Callable[[Canvas, np.random.Generator], None]


def _nothing(canvas: Canvas, rng: np.random.Generator) -> None:
    pass


def _cloud_bank(canvas: Canvas, rng: np.random.Generator) -> None:
    """Fill the bottom with billows, the nearer the whiter."""
    for row, tone in ((76, (226, 226, 240)), (86, (240, 240, 248)), (96, (252, 252, 255))):
        for x in np.arange(-4, 108, 13):
            canvas.disc(x + rng.uniform(-4, 4), row + rng.uniform(-3, 3), rng.uniform(9, 13), tone)
        canvas.box(0, row + 5, 100, 100, tone)


def _sea(canvas: Canvas, rng: np.random.Generator) -> None:
    water = jitter(rng, "blue")
    canvas.box(0, 78, 100, 100, shade(water, 1.15))
    for y in (82, 88, 94):
        left = rng.uniform(0, 50)
        canvas.line([(left, y), (left + 32, y)], shade(water, 1.5), 1.4)


def _meadow(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.box(0, 84, 100, 100, jitter(rng, "green"))


def _street(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.box(0, 90, 100, 100, (92, 92, 100))


def _snow(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.box(0, 84, 100, 100, (244, 247, 252))


@dataclass(frozen=True, slots=True)
class Place:
    """A sky, what lies on the ground, and the words for both."""

    name: str
    words: tuple[str, ...]
    top: Rgb
    bottom: Rgb
    ground: Foreground = _nothing
    """Painted behind the things."""
    foreground: Foreground = _nothing
    """Painted before the things of a skyline."""
    horizon: float = 82
    dark: bool = False

    def say(self, rng: np.random.Generator) -> str:
        """Return words for the place; "" where it needs none."""
        return str(rng.choice(self.words))


_DAY, _PALE = (120, 190, 240), (215, 236, 250)
_NIGHT, _DUSK = (14, 18, 52), (44, 50, 104)
PLACES = (
    Place("day", ("by day", "under a blue sky", "on a sunny day"), _DAY, _PALE, _meadow, _meadow),
    Place(
        "night",
        ("at night", "at night under the stars", "by night"),
        _NIGHT,
        _DUSK,
        _street,
        _street,
        dark=True,
    ),
    Place(
        "sunset",
        ("at sunset", "at dusk", "in the evening light"),
        (236, 110, 90),
        (253, 205, 130),
        _street,
        _street,
    ),
    Place(
        "clouds",
        ("above clouds", "above the clouds", "in the clouds"),
        (150, 200, 240),
        (236, 232, 250),
        _cloud_bank,
        _cloud_bank,
        74,
    ),
    Place(
        "clouds",
        ("above clouds", "floating above the clouds"),
        (196, 190, 240),
        (252, 224, 232),
        _cloud_bank,
        _cloud_bank,
        74,
    ),
    Place("sea", ("by the sea", "beside the sea", "at the seaside"), _DAY, _PALE, _sea, _sea, 74),
    Place("snow", ("in the snow", "in winter"), (190, 210, 230), (232, 240, 248), _snow, _snow),
)


def paint_place(rng: np.random.Generator, place: Place, *, pastel: bool = False) -> Canvas:
    """Return a canvas with the sky and the ground of a place."""
    canvas = Canvas()
    lift = 1.45 if pastel and not place.dark else 1.0
    canvas.gradient(*(shade(_noisy(rng, colour), lift) for colour in (place.top, place.bottom)))
    if place.dark:
        stars(canvas, rng)
    place.ground(canvas, rng)
    return canvas


def stars(canvas: Canvas, rng: np.random.Generator) -> None:
    """Strew stars over the upper half, and sometimes hang a moon."""
    for _ in range(int(rng.integers(8, 18))):
        canvas.disc(rng.uniform(2, 98), rng.uniform(2, 60), rng.uniform(0.6, 1.3), (255, 250, 220))
    if rng.random() < 0.4:
        canvas.disc(rng.uniform(12, 88), rng.uniform(10, 24), 7, (252, 240, 190))


def _noisy(rng: np.random.Generator, colour: Rgb) -> Rgb:
    red, green, blue = np.clip(np.asarray(colour) + rng.normal(0, 6, 3), 0, 255).astype(int)
    return int(red), int(green), int(blue)
