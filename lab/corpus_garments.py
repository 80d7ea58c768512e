"""Garments and home textiles cut from a pattern or from plain cloth."""

from __future__ import annotations

import numpy as np

from lab import captions
from lab.canvas import Canvas, Point
from lab.corpus_patterns import MOTIFS, PATTERNS, WORDS, cloth
from lab.example import SIZE, Example
from lab.garment_outlines import GARMENTS, Garment, Outline
from lab.palette import contrasting, jitter, say

HOME_SHARE = 0.03
"""How often a dress of the cloth that the home page's own prompt names is drawn."""


def draw_garment(rng: np.random.Generator) -> Example:
    """Draw one garment, plain or patterned, on a plain ground that the caption may name."""
    thing = str(rng.choice(list(GARMENTS)))
    white = rng.random() < 0.45
    ground, *colours = ["white", *contrasting(rng, 2)] if white else contrasting(rng, 3)
    if white and "white" in colours[:1]:
        ground = "grey"
    pattern = "" if rng.random() < 0.35 else str(rng.choice(list(PATTERNS)))
    if rng.random() < HOME_SHARE:
        thing, pattern, colours = "dress", "polka dot", [*rng.permutation(("red", "white"))]
        ground = ground if ground not in colours else "sky blue"
    image = wear(rng, GARMENTS[thing], pattern, colours, ground)
    named = colours if pattern else colours[:1]
    where, colours_named = (captions.on_ground(rng, say(rng, ground)), (*named, ground))
    if ground == "white" and rng.random() < 0.5:
        where, colours_named = "", tuple(named)
    core = describe(rng, thing, pattern, named) + where
    return Example(
        image=image,
        caption=captions.dress_up(rng, core),
        kind="garment",
        thing=thing,
        pattern=pattern,
        colours=colours_named,
    )


def wear(
    rng: np.random.Generator, garment: Garment, pattern: str, colours: list[str], ground: str
) -> np.ndarray:
    """Cut the garment out of cloth and lay it on the ground, (64, 64, 3) uint8."""
    place = _placement(rng)
    mask = _mask(garment.parts, place)
    fabric = (
        cloth(rng, pattern, colours)
        if pattern
        else np.full((SIZE, SIZE, 3), jitter(rng, colours[0]), np.uint8)
    )
    # A fold of light across the body, so that cloth reads as worn and not as cut paper.
    light = 1.04 - 0.16 * np.abs(np.linspace(-0.8, 1, SIZE))[None, :, None]
    picture = np.full((SIZE, SIZE, 3), jitter(rng, ground), float)
    dark = np.asarray(jitter(rng, colours[0])) * 0.55
    layers = (
        (_mask(garment.parts, place, border=3.4), dark),
        (mask, fabric * light),
        (_seams(garment, place), dark),
        (_mask(garment.trim, place), np.full(3, 60.0)),
    )
    for cover, paint in layers:
        picture = picture * (1 - cover[..., None]) + paint * cover[..., None]
    return picture.clip(0, 255).astype(np.uint8)


def _placement(rng: np.random.Generator) -> tuple[float, float, float]:
    """Return scale and shift (percent) of the garment in the picture."""
    scale = float(rng.uniform(0.72, 1.0))
    slack = (1 - scale) * 100
    return scale, float(rng.uniform(0.2, 0.8) * slack), float(rng.uniform(0.2, 0.8) * slack)


def _placed(outline: Outline, place: tuple[float, float, float]) -> list[Point]:
    scale, left, top = place
    return [(x * scale + left, y * scale + top) for x, y in outline]


def _mask(
    outlines: tuple[Outline, ...], place: tuple[float, float, float], border: float = 0
) -> np.ndarray:
    canvas = Canvas(0, "L")
    for outline in outlines:
        points = _placed(outline, place)
        canvas.polygon(points, 255)
        if border:
            canvas.line([*points, points[0], points[1]], 255, border)
    return canvas.finish() / 255


def _seams(garment: Garment, place: tuple[float, float, float]) -> np.ndarray:
    canvas = Canvas(0, "L")
    for seam in garment.seams:
        canvas.line(_placed(seam, place), 190, 1.4)
    return canvas.finish() / 255


def describe(rng: np.random.Generator, thing: str, pattern: str, colours: list[str]) -> str:
    """Word a garment, as in "a dress with a red and white polka dot pattern"."""
    noun = str(rng.choice(GARMENTS[thing].words))
    if not pattern:
        return captions.with_article(rng, f"{say(rng, colours[0])} {noun}")
    ground, motif = (say(rng, name) for name in colours)
    pair = captions.listed([ground, motif] if rng.random() < 0.5 else [motif, ground])
    word = rng.choice(WORDS[pattern])
    if pattern in MOTIFS and rng.random() < 0.45:
        return f"{captions.with_article(rng, f'{ground} {noun}')} with {motif} {MOTIFS[pattern]}"
    if rng.random() < 0.5:
        return captions.with_article(rng, f"{pair} {word} {noun}")
    return f"{captions.with_article(rng, noun)} with a {pair} {word} pattern"
