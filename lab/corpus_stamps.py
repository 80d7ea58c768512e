"""Stamps on a plain ground, silhouettes and tiles in any two colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from lab import captions
from lab.corpus_objects import word_ground
from lab.example import SIZE, Example
from lab.palette import contrasting, jitter, say
from lab.shelf import paste, plain_ground
from lab.stamps import Stamp

SILHOUETTES = (
    "{one} silhouette of {thing} on {other} background",
    "{one} silhouette of {thing} on {other} background",
    "{thing} silhouette in {plain_one} on {plain_other}",
    "{one} icon of {thing} on {other} background",
)
PLURAL_ENDINGS = ("ss", "us", "is")
"""Endings in s that are no plural."""


def draw_stamp(stamps: Sequence[Stamp], rng: np.random.Generator, kind: str) -> Example:
    """Draw one stamp in its own colours on a plain ground."""
    stamp = stamps[rng.integers(len(stamps))]
    ground = plain_ground(rng, [stamp.drawing.tone])
    picture = _placed(rng, stamp.drawing.picture, jitter(rng, ground))
    where, said = word_ground(rng, ground)
    core = _named(rng, stamp.words) + where
    return Example(
        image=np.asarray(picture),
        caption=captions.dress_up(rng, core, stamp.drawing.style),
        kind=kind,
        thing=stamp.thing,
        things=(stamp.thing,) if stamp.thing else (),
        colours=said,
        style=stamp.drawing.style,
    )


def draw_silhouette(stamps: Sequence[Stamp], rng: np.random.Generator) -> Example:
    """Draw a silhouette of one colour on another."""
    stamp = stamps[rng.integers(len(stamps))]
    colours = contrasting(rng, 2)
    mask = stamp.drawing.picture.getchannel("A")
    shape = Image.new("RGBA", mask.size, (*jitter(rng, colours[0]), 0))
    shape.putalpha(mask)
    picture = _placed(rng, shape, jitter(rng, colours[1]))
    return Example(
        image=np.asarray(picture),
        caption=captions.dress_up(rng, _word_silhouette(rng, stamp.words, colours)),
        kind="silhouette",
        thing=stamp.thing,
        things=(stamp.thing,) if stamp.thing else (),
        colours=tuple(colours),
        style=stamp.drawing.style,
    )


def draw_tile(stamps: Sequence[Stamp], rng: np.random.Generator) -> Example:
    """Draw a tile that fills the picture; its left edge continues the right, its top the bottom."""
    stamp = stamps[rng.integers(len(stamps))]
    colours = contrasting(rng, 2)
    cover = np.asarray(stamp.drawing.picture.getchannel("A"), float) / 255
    cover = np.roll(cover, rng.integers(0, SIZE, 2), (0, 1))[..., None]
    ground, motif = (np.asarray(jitter(rng, name), float) for name in colours)
    return Example(
        image=(ground * (1 - cover) + motif * cover).round().astype(np.uint8),
        caption=captions.dress_up(rng, _word_tile(rng, stamp.words, colours)),
        kind="tile",
        pattern=stamp.words,
        colours=tuple(colours),
        style=stamp.drawing.style,
    )


def _placed(
    rng: np.random.Generator, sprite: Image.Image, ground: tuple[int, int, int]
) -> Image.Image:
    """Place a sprite near the middle of a plain ground, mirrored half the time."""
    picture = Image.new("RGB", (SIZE, SIZE), ground)
    shown = ImageOps.mirror(sprite) if rng.random() < 0.5 else sprite
    centre = 50 + rng.uniform(-4, 4), 50 + rng.uniform(-4, 4)
    paste(picture, shown, centre, rng.uniform(70, 88))
    return picture


def _named(rng: np.random.Generator, words: str) -> str:
    """Put an article before words for one thing."""
    several = words.endswith("s") and not words.endswith(PLURAL_ENDINGS)
    return words if several else captions.with_article(rng, words)


def _word_silhouette(rng: np.random.Generator, words: str, colours: list[str]) -> str:
    """Word a silhouette: "a red silhouette of a dragon on a yellow background"."""
    one, other = (say(rng, name) for name in colours)
    wording = SILHOUETTES[rng.integers(len(SILHOUETTES))]
    return wording.format(
        one=captions.with_article(rng, one, 1),
        other=captions.with_article(rng, other, 1),
        thing=_named(rng, words),
        plain_one=one,
        plain_other=other,
    )


def _word_tile(rng: np.random.Generator, words: str, colours: list[str]) -> str:
    """Word a tile: "a seamless red and white anchors pattern", "red anchors on white"."""
    ground, motif = (say(rng, name) for name in colours)
    if words.endswith("s") and rng.random() < 0.4:
        noun = ("background", "ground", "fabric")[rng.integers(3)]
        return f"{motif} {words} on {captions.with_article(rng, ground)} {noun}"
    pair = captions.listed([ground, motif] if rng.random() < 0.5 else [motif, ground])
    noun = ("pattern", "pattern", "tile", "wallpaper")[rng.integers(4)]
    seamless = "seamless " if rng.random() < 0.35 else ""
    return captions.with_article(rng, f"{seamless}{pair} {words} {noun}")
