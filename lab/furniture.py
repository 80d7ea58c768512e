"""Pieces of furniture, drawn in one colour around a middle `x` in percent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lab.canvas import Canvas
from lab.palette import Rgb, jitter, shade

WOOD: Rgb = (150, 98, 58)


def sofa(canvas: Canvas, x: float, colour: Rgb) -> None:
    """A two-seat sofa; `x` is its middle, 44 wide."""
    canvas.rounded(x - 20, 50, x + 20, 74, colour)
    canvas.rounded(x - 23, 58, x - 15, 80, shade(colour, 0.85))
    canvas.rounded(x + 15, 58, x + 23, 80, shade(colour, 0.85))
    canvas.rounded(x - 15, 65, x - 0.5, 78, shade(colour, 1.15))
    canvas.rounded(x + 0.5, 65, x + 15, 78, shade(colour, 1.15))
    for leg in (x - 18, x + 16):
        canvas.box(leg, 80, leg + 2, 84, WOOD)


def armchair(canvas: Canvas, x: float, colour: Rgb) -> None:
    """An armchair, 28 wide."""
    canvas.rounded(x - 11, 46, x + 11, 74, colour)
    canvas.rounded(x - 14, 60, x - 8, 80, shade(colour, 0.85))
    canvas.rounded(x + 8, 60, x + 14, 80, shade(colour, 0.85))
    canvas.rounded(x - 8, 66, x + 8, 78, shade(colour, 1.15))
    for leg in (x - 11, x + 9):
        canvas.box(leg, 80, leg + 2, 85, WOOD)


def bed(canvas: Canvas, x: float, colour: Rgb) -> None:
    """A double bed from its foot, 44 wide."""
    canvas.rounded(x - 22, 44, x + 22, 70, WOOD)
    canvas.rounded(x - 20, 56, x + 20, 84, (246, 246, 246))
    canvas.rounded(x - 16, 53, x - 2, 62, (226, 228, 234))
    canvas.rounded(x + 2, 53, x + 16, 62, (226, 228, 234))
    canvas.rounded(x - 22, 63, x + 22, 88, colour)


def round_table(canvas: Canvas, x: float, colour: Rgb) -> None:
    """A round table on one foot, 26 wide."""
    canvas.box(x - 1.5, 74, x + 1.5, 90, shade(colour, 0.7))
    canvas.disc(x, 91, 7, shade(colour, 0.7), 0.3)
    canvas.disc(x, 75, 13, shade(colour, 0.8), 0.34)
    canvas.disc(x, 73.5, 13, colour, 0.34)


def square_table(canvas: Canvas, x: float, colour: Rgb) -> None:
    """A table with four legs, 28 wide."""
    for leg in (x - 13, x + 10):
        canvas.box(leg, 72, leg + 3, 93, shade(colour, 0.75))
    canvas.polygon([(x - 11, 68), (x + 11, 68), (x + 15, 75), (x - 15, 75)], colour)


def plant(canvas: Canvas, x: float, colour: Rgb) -> None:
    """A pot plant, 18 wide; the colour is the pot's."""
    leaf = (46, 140, 70)
    for tilt in (-9, -5, 0, 5, 9):
        tip = 50 + abs(tilt) * 0.9
        canvas.polygon(
            [
                (x - 1, 76),
                (x + tilt - 3, tip + 10),
                (x + tilt, tip),
                (x + tilt + 3, tip + 10),
                (x + 1, 76),
            ],
            shade(leaf, 1 - tilt * 0.02),
        )
    canvas.polygon([(x - 7, 75), (x + 7, 75), (x + 5, 89), (x - 5, 89)], colour)


def lamp(canvas: Canvas, x: float, colour: Rgb) -> None:
    """A floor lamp, 16 wide; the colour is the shade's."""
    canvas.line([(x, 44), (x, 88)], (70, 60, 56), 1.6)
    canvas.disc(x, 88, 6, (70, 60, 56), 0.3)
    canvas.polygon([(x - 4, 30), (x + 4, 30), (x + 9, 46), (x - 9, 46)], colour)


def bookshelf(canvas: Canvas, x: float, colour: Rgb) -> None:
    """A bookshelf with three rows of books, 24 wide."""
    canvas.box(x - 12, 28, x + 12, 82, colour)
    spines = ("red", "blue", "green", "gold", "purple")
    for row in (32, 49, 66):
        canvas.box(x - 10, row, x + 10, row + 13, shade(colour, 0.55))
        for index, at in enumerate(np.arange(x - 9.5, x + 8, 4)):
            canvas.box(
                at,
                row + 2 + index % 3,
                at + 3,
                row + 13,
                jitter(np.random.default_rng(index), spines[index % 5]),
            )


def picture_frame(canvas: Canvas, x: float, colour: Rgb) -> None:
    """A framed landscape on the wall, 22 wide."""
    canvas.box(x - 11, 14, x + 11, 32, colour)
    canvas.box(x - 9, 16, x + 9, 30, (196, 226, 246))
    canvas.polygon(
        [(x - 9, 30), (x - 3, 21), (x + 2, 27), (x + 5, 23), (x + 9, 30)], (90, 150, 100)
    )


def window(canvas: Canvas, x: float, colour: Rgb) -> None:
    """A window with a cross; the colour is the frame's."""
    canvas.box(x - 13, 10, x + 13, 40, colour)
    canvas.box(x - 11, 12, x + 11, 38, (168, 214, 246))
    canvas.line([(x, 11), (x, 39)], colour, 1.6)
    canvas.line([(x - 12, 25), (x + 12, 25)], colour, 1.6)


Furniture = Callable[[Canvas, float, Rgb], None]
FLOOR_PIECES: dict[str, tuple[Furniture, float]] = {
    "sofa": (sofa, 46),
    "armchair": (armchair, 30),
    "bed": (bed, 46),
    "round table": (round_table, 28),
    "square table": (square_table, 31),
    "plant": (plant, 19),
    "lamp": (lamp, 18),
    "bookshelf": (bookshelf, 25),
}
"""Name -> how it is drawn, and its width in percent."""
WALL_PIECES: dict[str, Furniture] = {"window": window, "picture": picture_frame}
