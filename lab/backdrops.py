"""The places of scenes: a ground, a sky and a few things that tell them apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lab.canvas import Canvas
from lab.corpus_places import stars
from lab.furniture import window
from lab.palette import jitter, shade

Paint = Callable[[Canvas, np.random.Generator], None]


def _meadow(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.gradient((130, 196, 242), (222, 240, 250))
    canvas.disc(rng.uniform(10, 90), 90, 60, shade(jitter(rng, "green"), 0.85), 0.42)
    canvas.box(0, 74, 100, 100, jitter(rng, "green"))


def _desert(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.gradient((140, 200, 240), (250, 236, 206))
    canvas.disc(rng.uniform(10, 90), 92, 56, (226, 184, 112), 0.46)
    canvas.box(0, 78, 100, 100, (238, 202, 132))


def _mars(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.gradient((44, 20, 34), (214, 120, 84))
    canvas.disc(rng.uniform(10, 90), 90, 55, (150, 62, 36), 0.4)
    canvas.box(0, 74, 100, 100, (188, 84, 48))
    for _ in range(3):
        canvas.disc(rng.uniform(5, 95), rng.uniform(80, 97), rng.uniform(4, 9), (150, 62, 38), 0.35)


def _moonscape(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.gradient((8, 8, 20), (20, 20, 40))
    stars(canvas, rng)
    canvas.box(0, 74, 100, 100, (168, 168, 174))
    for _ in range(4):
        canvas.disc(
            rng.uniform(5, 95), rng.uniform(79, 97), rng.uniform(4, 9), (134, 134, 142), 0.35
        )


def _space(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.gradient((8, 8, 26), (26, 18, 62))
    stars(canvas, rng)
    for _ in range(20):
        canvas.disc(
            rng.uniform(0, 100), rng.uniform(0, 100), rng.uniform(0.4, 1.0), (255, 255, 240)
        )


def _night(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.gradient((14, 18, 52), (44, 52, 108))
    stars(canvas, rng)
    canvas.box(0, 80, 100, 100, (24, 52, 44))


def _snow(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.gradient((176, 204, 230), (226, 236, 246))
    canvas.box(0, 74, 100, 100, (246, 249, 253))
    for _ in range(22):
        canvas.disc(rng.uniform(0, 100), rng.uniform(0, 72), rng.uniform(0.7, 1.4), (255, 255, 255))


def _sea(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.gradient((140, 204, 246), (226, 242, 252))
    canvas.box(0, 62, 100, 100, (36, 104, 182))
    for y in (68, 76, 84, 92):
        left = rng.uniform(-10, 60)
        canvas.line([(left, y), (left + 40, y)], (92, 158, 220), 1.6)


def _underwater(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.gradient((40, 150, 206), (12, 52, 112))
    for _ in range(8):
        canvas.disc(rng.uniform(3, 97), rng.uniform(3, 90), rng.uniform(0.8, 2), (150, 214, 240))
    canvas.box(0, 91, 100, 100, (214, 188, 134))


def _sky(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.gradient((90, 170, 236), (206, 232, 250))
    for _ in range(3):
        x, y = rng.uniform(5, 95), rng.uniform(8, 94)
        for step in (-9, 0, 9):
            canvas.disc(x + step, y - (step == 0) * 3, 8, (250, 252, 255), 0.7)


def _city(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.gradient((150, 204, 240), (234, 240, 246))
    for left in np.arange(-4, 100, 14):
        top = rng.uniform(22, 56)
        tone = shade((120, 130, 160), rng.uniform(0.9, 1.4))
        canvas.box(left, top, left + 13, 84, tone)
        for y in np.arange(top + 5, 78, 9):
            canvas.box(left + 3, y, left + 10, y + 3, shade(tone, 1.5))
    canvas.box(0, 80, 100, 100, (104, 104, 112))


def _forest(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.gradient((196, 226, 214), (226, 242, 226))
    for x in np.arange(-2, 104, 12):
        tone, top = shade((38, 108, 62), rng.uniform(0.75, 1.15)), rng.uniform(12, 34)
        canvas.box(x - 1.5, 60, x + 1.5, 82, (96, 66, 42))
        canvas.polygon([(x - 11, 74), (x, top), (x + 11, 74)], tone)
    canvas.box(0, 78, 100, 100, (72, 132, 70))


def _beach(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.gradient((130, 204, 246), (220, 240, 250))
    canvas.box(0, 52, 100, 70, (44, 140, 204))
    canvas.box(0, 68, 100, 100, (244, 220, 164))


def _room(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.gradient((244, 226, 204), (250, 238, 222))
    canvas.box(0, 76, 100, 100, (176, 122, 78))
    canvas.box(0, 74, 100, 77, (252, 248, 240))
    window(canvas, rng.uniform(20, 80), (250, 250, 250))


@dataclass(frozen=True, slots=True)
class Backdrop:
    """A place: how it is painted, its words, and how a thing stands in it."""

    paint: Paint
    words: tuple[str, ...]
    foot: float
    """Where the foot of a thing stands, percent from the top."""
    solid: bool = True
    """Whether a thing casts a shadow on its ground."""


BACKDROPS = {
    "meadow": Backdrop(_meadow, ("in a meadow", "on a green meadow", "on the grass"), 90),
    "desert": Backdrop(_desert, ("in the desert", "in a desert"), 90),
    "mars": Backdrop(_mars, ("on mars", "on the planet mars", "on mars"), 90),
    "moon": Backdrop(_moonscape, ("on the moon",), 90),
    "space": Backdrop(_space, ("in space", "in outer space"), 82, solid=False),
    "night": Backdrop(_night, ("at night", "under a night sky with stars"), 92),
    "snow": Backdrop(_snow, ("in the snow", "in winter"), 90),
    "sea": Backdrop(_sea, ("on the sea", "on the water"), 84, solid=False),
    "underwater": Backdrop(
        _underwater, ("under water", "underwater", "in the sea"), 82, solid=False
    ),
    "sky": Backdrop(_sky, ("in the sky", "among clouds", "flying in the sky"), 82, solid=False),
    "city": Backdrop(_city, ("in a city", "in the city", "in a street"), 92),
    "forest": Backdrop(_forest, ("in a forest", "in the forest"), 91),
    "beach": Backdrop(_beach, ("on a beach", "at the beach"), 91),
    "room": Backdrop(_room, ("in a room", "indoors", "in a living room"), 91),
}


def paint_backdrop(rng: np.random.Generator, place: str) -> Image.Image:
    """Paint a place without anything in it, of picture size."""
    canvas = Canvas()
    BACKDROPS[place].paint(canvas, rng)
    return Image.fromarray(canvas.finish())
