"""Buildings with named colours, and whole cities in a named style."""

from __future__ import annotations

import numpy as np

from lab import captions
from lab.building_shapes import BUILDINGS, GLASS, LIT, window_rows
from lab.canvas import Canvas
from lab.corpus_places import PLACES, Place, paint_place
from lab.example import Example
from lab.palette import PASTELS, Rgb, contrasting, jitter, pick_colours, say, shade

CITIES = ("city", "Victorian city")
ABOVE_CLOUDS = tuple(place for place in PLACES if place.name == "clouds")
WORDS = {
    "house": ("house", "cottage"),
    "row of Victorian houses": ("row of Victorian houses", "Victorian terrace"),
    "skyscraper": ("skyscraper", "modern tower block"),
}


def draw_building(rng: np.random.Generator) -> Example:
    """Draw one building with named colours, or a city."""
    return _one_building(rng) if rng.random() < 0.5 else _city(rng)


def _one_building(rng: np.random.Generator) -> Example:
    name = str(rng.choice(list(BUILDINGS)))
    wall, roof = contrasting(rng, 2)
    place = PLACES[rng.integers(len(PLACES))]
    canvas = paint_place(rng, place)
    BUILDINGS[name](canvas, rng, jitter(rng, wall), jitter(rng, roof), LIT if place.dark else GLASS)
    word = rng.choice(WORDS.get(name, (name,)))
    core = captions.with_article(rng, f"{say(rng, wall)} {word}")
    named = (wall,)
    if rng.random() < 0.6:
        core, named = f"{core} with {captions.with_article(rng, say(rng, roof))} roof", (wall, roof)
    return Example(
        image=canvas.finish(),
        caption=captions.dress_up(rng, f"{core} {place.say(rng)}"),
        kind="building",
        thing=name,
        place=place.name,
        colours=named,
    )


def _city(rng: np.random.Generator) -> Example:
    victorian, pastel = rng.random() < 0.5, rng.random() < 0.5
    among = ABOVE_CLOUDS if rng.random() < 0.25 else PLACES
    place = among[rng.integers(len(among))]
    named = tuple(pick_colours(rng, int(rng.integers(1, 3)))) if not pastel else PASTELS
    canvas = paint_place(rng, place, pastel=pastel)
    skyline(canvas, rng, [jitter(rng, name) for name in named], victorian, place)
    style = "Victorian" if victorian else str(rng.choice(("modern", "")))
    noun = str(
        rng.choice(("city", "town", "skyline", "cityscape") if not victorian else ("city", "town"))
    )
    caption = _word_city(rng, noun, style, () if pastel else named, place)
    return Example(
        image=canvas.finish(),
        caption=caption,
        kind="building",
        thing="Victorian city" if victorian else "city",
        place=place.name,
        colours=() if pastel else named,
    )


def _word_city(
    rng: np.random.Generator, noun: str, style: str, colours: tuple[str, ...], place: Place
) -> str:
    palette = captions.listed([say(rng, name) for name in colours]) if colours else "pastel"
    if rng.random() < 0.55:
        tail = [
            f"{palette} colors" if rng.random() < 0.6 else f"{palette} colours",
            f"{style} style" if style else "flat illustration",
        ]
        rng.shuffle(tail)
        return f"{captions.with_article(rng, noun)} {place.say(rng)}, {', '.join(tail)}"
    core = captions.with_article(rng, f"{palette} {style} {noun}".replace("  ", " "))
    return captions.dress_up(rng, f"{core} {place.say(rng)}")


def skyline(
    canvas: Canvas, rng: np.random.Generator, walls: list[Rgb], victorian: bool, place: Place
) -> None:
    """Draw two rows of buildings, the far one paler, then what lies before them."""
    window = LIT if place.dark else shade(GLASS, 1.3)
    for floor, lift, tone in ((place.horizon + 4, 16, 1.35), (place.horizon + 14, 0, 1.0)):
        left = rng.uniform(-6, 0)
        while left < 100:
            width = rng.uniform(15, 22) if victorian else rng.uniform(10, 18)
            wall = shade(walls[rng.integers(len(walls))], tone * (0.8 if place.dark else 1))
            if victorian:
                _gabled(canvas, rng, left, left + width, floor, lift, wall, window)
            else:
                top = floor - lift - rng.uniform(24, 58)
                canvas.box(left, top, left + width, floor, wall)
                window_rows(canvas, rng, left, left + width, top + 4, floor, window)
            left += width + rng.uniform(-1, 2)
    place.foreground(canvas, rng)


def _gabled(
    canvas: Canvas,
    rng: np.random.Generator,
    left: float,
    right: float,
    floor: float,
    lift: float,
    wall: Rgb,
    window: Rgb,
) -> None:
    """A Victorian house of the skyline: steep roof or spire, finial, sash windows."""
    width, top = right - left, floor - lift - rng.uniform(22, 40)
    steep = 1.7 if rng.random() < 0.25 else 0.8
    roof, middle = shade(wall, 0.66), (left + right) / 2
    canvas.box(left, top, right, floor, wall)
    canvas.polygon([(left - 1, top), (middle, top - width * steep), (right + 1, top)], roof)
    canvas.line([(middle, top - width * steep - 5), (middle, top - width * steep + 2)], roof, 1.2)
    canvas.disc(middle, top - width * 0.22, width * 0.1, window)
    for y in np.arange(top + 5, floor - 8, 12):
        for share in (0.18, 0.58):
            canvas.box(left + width * share, y, left + width * (share + 0.24), y + 7, window)
            canvas.disc(left + width * (share + 0.12), y, width * 0.12, window)
