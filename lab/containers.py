"""Things that other things are inside of: a back painted before them, a front painted over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lab.canvas import Canvas
from lab.palette import Rgb, shade

Paint = Callable[[Canvas, Rgb], None]
CLEAR = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Container:
    """What is behind the thing and what before it, and where the thing lies, in percent."""

    back: Paint
    front: Paint
    middle: float
    """Height of the middle of the thing, from the top."""
    side: float
    """Longer side of the thing."""


def _box_back(canvas: Canvas, colour: Rgb) -> None:
    canvas.polygon([(16, 56), (84, 56), (78, 46), (22, 46)], shade(colour, 0.55))


def _box_front(canvas: Canvas, colour: Rgb) -> None:
    canvas.box(16, 56, 84, 92, colour)
    canvas.box(16, 56, 84, 61, shade(colour, 1.25))
    canvas.polygon([(16, 56), (4, 64), (8, 67), (19, 60)], shade(colour, 0.8))
    canvas.polygon([(84, 56), (96, 64), (92, 67), (81, 60)], shade(colour, 0.8))


def _basket_back(canvas: Canvas, colour: Rgb) -> None:
    canvas.disc(50, 60, 37, shade(colour, 0.55), 0.22)


def _basket_front(canvas: Canvas, colour: Rgb) -> None:
    canvas.polygon([(13, 60), (87, 60), (78, 92), (22, 92)], colour)
    for row, y in enumerate((66, 74, 82)):
        for x in np.arange(20 + row % 2 * 5, 80 - row, 10):
            canvas.box(x, y, x + 5, y + 4, shade(colour, 0.75))
    canvas.rounded(11, 57, 89, 64, shade(colour, 0.85))


def _bowl_back(canvas: Canvas, colour: Rgb) -> None:
    canvas.disc(50, 60, 38, shade(colour, 0.6), 0.2)


def _bowl_front(canvas: Canvas, colour: Rgb) -> None:
    half = np.linspace(0, np.pi, 24)
    canvas.polygon([(50 + 38 * np.cos(a), 60 + 30 * np.sin(a)) for a in half], colour)
    canvas.polygon([(50 + 38 * np.cos(a), 60 + 7.6 * np.sin(a)) for a in half], shade(colour, 1.2))
    canvas.box(38, 88, 62, 93, shade(colour, 0.75))


def _bubble_back(canvas: Canvas, colour: Rgb) -> None:
    canvas.disc(50, 50, 45, (*shade(colour, 1.0), 255))
    canvas.disc(50, 50, 41.5, (*shade(colour, 1.75), 255))


def _bubble_front(canvas: Canvas, colour: Rgb) -> None:
    canvas.line([(22, 40), (26, 30), (34, 22)], (255, 255, 255), 4)


def _jar_back(canvas: Canvas, colour: Rgb) -> None:
    canvas.rounded(20, 22, 80, 95, (150, 176, 190))
    canvas.rounded(23, 25, 77, 92, (226, 240, 246))


def _jar_front(canvas: Canvas, colour: Rgb) -> None:
    canvas.line([(29, 34), (29, 80)], (255, 255, 255), 3)
    canvas.rounded(24, 8, 76, 24, colour)


def _cage_back(canvas: Canvas, colour: Rgb) -> None:
    canvas.box(14, 84, 86, 93, shade(colour, 0.8))


def _cage_front(canvas: Canvas, colour: Rgb) -> None:
    for x in np.arange(16, 86, 13.4):
        canvas.box(x, 16, x + 2.6, 86, colour)
    canvas.box(14, 12, 86, 17, shade(colour, 0.8))


CONTAINERS: dict[str, Container] = {
    "box": Container(_box_back, _box_front, 41, 52),
    "basket": Container(_basket_back, _basket_front, 43, 52),
    "bowl": Container(_bowl_back, _bowl_front, 43, 50),
    "bubble": Container(_bubble_back, _bubble_front, 50, 54),
    "jar": Container(_jar_back, _jar_front, 62, 46),
    "cage": Container(_cage_back, _cage_front, 58, 50),
}


def layer(paint: Paint, colour: Rgb) -> Image.Image:
    """Paint on a clear ground, RGBA, of picture size."""
    canvas = Canvas(CLEAR, "RGBA")
    paint(canvas, colour)
    return Image.fromarray(canvas.finish())
