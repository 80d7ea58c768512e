"""Single buildings, drawn from a few parts in a wall and a roof colour."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lab.canvas import Canvas
from lab.palette import Rgb, shade

Paint = Callable[..., None]
LIT: Rgb = (255, 224, 120)
GLASS: Rgb = (150, 200, 230)


def house(
    canvas: Canvas, rng: np.random.Generator, wall: Rgb, roof: Rgb, window: Rgb = GLASS
) -> None:
    """A house with a gable or hipped roof, a door and two windows."""
    left, right, top, floor = rng.uniform(14, 26), rng.uniform(74, 86), rng.uniform(42, 50), 90
    inset = rng.choice((0.5, 0.32))
    width = right - left
    if rng.random() < 0.5:
        canvas.box(right - width * 0.25, top - 24, right - width * 0.14, top, shade(roof, 0.7))
    canvas.box(left, top, right, floor, wall)
    canvas.polygon(
        [
            (left - 5, top),
            (left + width * inset, top - 26),
            (right - width * inset, top - 26),
            (right + 5, top),
        ],
        roof,
    )
    door = left + width * rng.choice((0.12, 0.42, 0.7))
    canvas.box(door, floor - 24, door + width * 0.18, floor, shade(roof, 0.6))
    for share in (0.12, 0.42, 0.7):
        at = left + width * share
        if abs(at - door) > 2:
            _window(canvas, at, top + 12, width * 0.18, 14, window)


def _window(
    canvas: Canvas,
    left: float,
    top: float,
    width: float,
    height: float,
    glass: Rgb,
    frame: Rgb = (250, 250, 250),
) -> None:
    canvas.box(left - 1, top - 1, left + width + 1, top + height + 1, frame)
    canvas.box(left, top, left + width, top + height, glass)
    canvas.line([(left + width / 2, top), (left + width / 2, top + height)], frame, 1)


def victorian_house(
    canvas: Canvas,
    rng: np.random.Generator,
    wall: Rgb,
    roof: Rgb,
    window: Rgb = GLASS,
    left: float = 22,
    right: float = 78,
    floor: float = 92,
) -> None:
    """A tall narrow house: steep gable, finial, bay and arched sash windows, light trim."""
    width, top = right - left, floor - rng.uniform(46, 56)
    middle, peak = left + width / 2, top - width * 0.55
    trim = shade(wall, 1.7)
    canvas.box(left, top, right, floor, wall)
    canvas.polygon([(left - 3, top), (middle, peak - 4), (right + 3, top)], roof)
    canvas.polygon(
        [(left + width * 0.14, top), (middle, peak + 5), (right - width * 0.14, top)], trim
    )
    canvas.line([(middle, peak - 10), (middle, peak)], roof, 1.4)
    canvas.disc(middle, (top + peak) / 2 + 4, width * 0.09, window)
    for storey in (top + 7, top + 26):
        for share in (0.16, 0.62):
            at, wide = left + width * share, width * 0.22
            canvas.disc(at + wide / 2, storey + 2, wide / 2 + 1, trim)
            _window(canvas, at, storey + 2, wide, 11, window, trim)
    canvas.box(middle - width * 0.09, floor - 13, middle + width * 0.09, floor, shade(roof, 0.7))
    canvas.line([(left, top + 22), (right, top + 22)], trim, 1.2)


def terrace(
    canvas: Canvas, rng: np.random.Generator, wall: Rgb, roof: Rgb, window: Rgb = GLASS
) -> None:
    """Three or four Victorian houses in a row."""
    count = int(rng.integers(3, 5))
    width = 92 / count
    for index in range(count):
        tone = shade(wall, rng.uniform(0.85, 1.2))
        victorian_house(
            canvas, rng, tone, roof, window, 4 + index * width, 4 + (index + 1) * width - 1, 94
        )


def tower(
    canvas: Canvas, rng: np.random.Generator, wall: Rgb, roof: Rgb, window: Rgb = GLASS
) -> None:
    """A round tower with a pointed roof."""
    half, top = rng.uniform(12, 18), rng.uniform(30, 40)
    canvas.box(50 - half, top, 50 + half, 94, wall)
    canvas.box(50 + half * 0.4, top, 50 + half, 94, shade(wall, 0.85))
    canvas.polygon([(50 - half - 4, top), (50, top - 26), (50 + half + 4, top)], roof)
    for at in np.arange(top + 8, 84, 15):
        _window(canvas, 47, at, 6, 8, window)


def castle(
    canvas: Canvas, rng: np.random.Generator, wall: Rgb, roof: Rgb, window: Rgb = GLASS
) -> None:
    """A castle: a battlemented wall between towers with pointed roofs."""
    canvas.box(22, 54, 78, 92, wall)
    for left in range(22, 78, 8):
        canvas.box(left, 49, left + 4, 54, wall)
    for x, half, top in ((18, 8, 40), (82, 8, 40), (50, 10, rng.uniform(28, 36))):
        canvas.box(x - half, top, x + half, 92, shade(wall, 0.92))
        canvas.polygon([(x - half - 2, top), (x, top - 22), (x + half + 2, top)], roof)
        _window(canvas, x - 2.5, top + 8, 5, 8, window, shade(wall, 0.7))
    canvas.disc(50, 80, 7, shade(wall, 0.35))
    canvas.box(43, 80, 57, 92, shade(wall, 0.35))


def skyscraper(
    canvas: Canvas, rng: np.random.Generator, wall: Rgb, roof: Rgb, window: Rgb = GLASS
) -> None:
    """A tall slab with rows of windows."""
    half, top = rng.uniform(15, 22), rng.uniform(8, 20)
    canvas.line([(50, top - 8), (50, top)], roof, 1.6)
    canvas.box(50 - half, top, 50 + half, 95, wall)
    canvas.box(50 - half, top, 50 + half, top + 4, roof)
    window_rows(canvas, rng, 50 - half, 50 + half, top + 8, 92, window)


def window_rows(
    canvas: Canvas,
    rng: np.random.Generator,
    left: float,
    right: float,
    top: float,
    floor: float,
    window: Rgb,
) -> None:
    columns = max(2, int((right - left) / 7))
    pitch = (right - left) / columns
    for y in np.arange(top, floor - 5, 8):
        for column in range(columns):
            x = left + pitch * (column + 0.22)
            canvas.box(x, y, x + pitch * 0.56, y + 4.5, window)


BUILDINGS: dict[str, Paint] = {
    "house": house,
    "Victorian house": victorian_house,
    "row of Victorian houses": terrace,
    "tower": tower,
    "castle": castle,
    "skyscraper": skyscraper,
}
