"""The concepts with their sprites: what may be drawn, and how it is tinted and placed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from lab.concepts import HELD_OUT_STYLES, Concept
from lab.corpus_fetch import Drawing
from lab.example import SIZE
from lab.palette import COLOURS, Rgb, jitter, pick_colours

if TYPE_CHECKING:
    from lab.stamps import Stamp

TINTS = tuple(name for name in COLOURS if name not in ("white", "black", "navy"))
"""Colours in which an object keeps its drawing: not so dark or light that its lines drown."""

STYLE_WEIGHTS = {"fluent-3d": 3.0, "fluent-emoji": 2.0, "fluent-emoji-flat": 2.0, "noto": 2.0}
"""How often a style is drawn, against 1 for any other."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Shelf:
    """The concepts that may be drawn, and the drawings of each."""

    concepts: dict[str, Concept]
    drawings: dict[str, list[Drawing]]
    stamps: Mapping[str, Sequence[Stamp]] = field(default_factory=dict)
    """Part of the extras ("silhouette", "clipart"...) -> what it draws."""

    def seen(self) -> Shelf:
        """Return the side of the shelf that training sees."""
        kept = {name: concept for name, concept in self.concepts.items() if not concept.held_out}
        return self.only(kept, lambda drawing: drawing.style not in HELD_OUT_STYLES)

    def unseen_concepts(self) -> Shelf:
        """Return the concepts that training never sees, in the styles that it sees."""
        kept = {name: concept for name, concept in self.concepts.items() if concept.held_out}
        return self.only(kept, lambda drawing: drawing.style not in HELD_OUT_STYLES)

    def unseen_style(self) -> Shelf:
        """Return the concepts that training sees, in the style that it never sees."""
        kept = {name: concept for name, concept in self.concepts.items() if not concept.held_out}
        return self.only(kept, lambda drawing: drawing.style in HELD_OUT_STYLES)

    def only(self, concepts: dict[str, Concept], wanted) -> Shelf:
        """Return a shelf of some concepts and of the drawings that are wanted."""
        drawings = {
            name: [drawing for drawing in self.drawings.get(name, []) if wanted(drawing)]
            for name in concepts
        }
        drawn = {name: found for name, found in drawings.items() if found}
        named = {name: concept for name, concept in concepts.items() if name in drawn}
        return replace(self, concepts=named, drawings=drawn)

    def pick(self, rng: np.random.Generator, groups: tuple[str, ...] = ()) -> Concept:
        """Return a concept at random, of some groups only if they are given."""
        among = [c for c in self.concepts.values() if not groups or c.group in groups]
        return among[rng.integers(len(among))]

    def among(self, rng: np.random.Generator, names: tuple[str, ...]) -> Concept:
        """Return one of the named concepts; any, where the shelf has none of them."""
        here = [name for name in names if name in self.concepts]
        return self.concepts[here[rng.integers(len(here))]] if here else self.pick(rng)

    def drawing(
        self, rng: np.random.Generator, concept: Concept, tint: str = "", style: str = ""
    ) -> Drawing:
        """Return one drawing of a concept, sometimes mirrored, tinted if a colour is named.

        A drawing of `style` is taken if there is one.
        """
        found = self.drawings[concept.name]
        same = [drawing for drawing in found if drawing.style == style] or found
        weights = np.cumsum([STYLE_WEIGHTS.get(drawing.style, 1.0) for drawing in same])
        drawing = same[int(np.searchsorted(weights, rng.random() * weights[-1]))]
        picture = drawing.picture
        if rng.random() < 0.5:
            picture = ImageOps.mirror(picture)
        if tint:
            colour = jitter(rng, tint)
            return Drawing(tinted(picture, colour), drawing.style, colour)
        return replace(drawing, picture=picture)


def tinted(picture: Image.Image, colour: Rgb) -> Image.Image:
    """Map the brightness of a drawing to shades of one colour; transparency stays."""
    grey = np.asarray(picture.convert("L"), float)
    opaque = np.asarray(picture.getchannel("A")) > 128
    low, middle, high = np.percentile(grey[opaque], (2, 50, 98)) if opaque.any() else (0, 128, 255)
    # The commonest brightness gets the colour itself, so that the colour word stays exact.
    level = np.interp(grey, (low - 1, middle, high + 1), (0.3, 1.0, 1.35))[..., None]
    target = np.asarray(colour, float)
    shaded = np.where(level <= 1, target * level, target + (255 - target) * (level - 1))
    pixels = np.dstack([shaded.round().astype(np.uint8), np.asarray(picture.getchannel("A"))])
    return Image.fromarray(pixels)


def paste(picture: Image.Image, sprite: Image.Image, centre: Point, side: float) -> None:
    """Paste a sprite so that its longer side is `side` percent, its centre at `centre` percent."""
    scale = side / 100 * SIZE / max(sprite.size)
    size = tuple(max(1, round(edge * scale)) for edge in sprite.size)
    small = sprite.resize(size, Image.Resampling.BOX if scale < 0.4 else Image.Resampling.BICUBIC)
    x, y = (at / 100 * SIZE for at in centre)
    picture.paste(small, (round(x - size[0] / 2), round(y - size[1] / 2)), small)


def stand(
    picture: Image.Image, sprite: Image.Image, foot: Point, side: float, *, shadow: bool = True
) -> None:
    """Stand a sprite with the middle of its foot at `foot` percent, on a soft shadow."""
    wide, tall = (side * edge / max(sprite.size) for edge in sprite.size)
    if shadow:
        _cast_shadow(picture, foot, wide * 0.42)
    paste(picture, sprite, (foot[0], foot[1] - tall / 2), side)


def _cast_shadow(picture: Image.Image, foot: Point, radius: float) -> None:
    x, y, wide = (at / 100 * SIZE for at in (*foot, radius))
    cover = Image.new("L", picture.size, 0)
    box = (x - wide, y - wide * 0.16, x + wide, y + wide * 0.16)
    ImageDraw.Draw(cover).ellipse(box, 70)
    picture.paste((20, 20, 30), (0, 0), cover)


def plain_ground(rng: np.random.Generator, tones: list[Rgb], white: float = 0.45) -> str:
    """Return the name of a ground colour on which none of the tones drowns."""
    for _ in range(40):
        name = "white" if rng.random() < white else pick_colours(rng, 1)[0]
        apart = [np.linalg.norm(np.subtract(tone, COLOURS[name])) for tone in tones]
        if min(apart, default=441) > 75:
            return name
    return "black" if np.mean(tones) > 128 else "white"
