"""Textile patterns, drawn as fields over the unit square that repeat without a seam."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from lab import captions, textiles
from lab.example import SIZE, Example
from lab.palette import contrasting, jitter, pick_colours, say

OVERSAMPLING = 3
SIDE = SIZE * OVERSAMPLING

Field = np.ndarray
"""(SIDE, SIDE) float: x or y of every point, in repeats of the pattern."""


def _stripes(along: Field, across: Field) -> Field:
    return (along % 1 < 0.5) * 1.0


def _diagonal(x: Field, y: Field) -> Field:
    return _stripes(x + y, y)


def _checkerboard(x: Field, y: Field) -> Field:
    return (np.floor(x * 2) + np.floor(y * 2)) % 2


def _gingham(x: Field, y: Field) -> Field:
    return (_stripes(x, y) + _stripes(y, x)) / 2


def _polka(x: Field, y: Field) -> Field:
    near = _from_centre(x, y) < 0.27
    between = _from_centre(x + 0.5, y + 0.5) < 0.27
    return (near | between) * 1.0


def _chevron(x: Field, y: Field) -> Field:
    return _stripes(y + np.abs(x % 1 - 0.5), x)


def _waves(x: Field, y: Field) -> Field:
    return _stripes(y + 0.18 * np.sin(2 * np.pi * x), x)


def _argyle(x: Field, y: Field) -> Field:
    diamond = (np.abs(x % 1 - 0.5) + np.abs(y % 1 - 0.5) < 0.5) * 1.0
    lines = np.minimum(np.abs((x + y) % 1 - 0.5), np.abs((x - y) % 1 - 0.5)) < 0.035
    return np.where(lines, 0.5, diamond)


def _triangles(x: Field, y: Field) -> Field:
    return (np.abs(x % 1 - 0.5) < (y % 1) / 2) * 1.0


def _grid(x: Field, y: Field) -> Field:
    return ((x % 1 < 0.18) | (y % 1 < 0.18)) * 1.0


def _tartan(x: Field, y: Field) -> Field:
    def band(at: Field) -> Field:
        return (at % 1 < 0.45) * 0.5 + ((at % 1 > 0.66) & (at % 1 < 0.78)) * 0.35

    return np.clip(band(x) + band(y), 0, 1)


def _houndstooth(x: Field, y: Field) -> Field:
    # Four dark and four light threads each way, woven as a two-over-two twill.
    warp, weft = np.floor(x * 8), np.floor(y * 8)
    threads = np.where((warp + weft) % 4 < 2, warp, weft)
    return (threads % 8 < 4) * 1.0


def _stars(x: Field, y: Field) -> Field:
    return _scattered(x, y, _star_edge)


def _star_edge(angle: Field) -> Field:
    """Return the radius of a five-pointed star; straight edges are linear in 1 / radius."""
    tip = np.abs(angle / (2 * np.pi / 5) % 1 - 0.5) * 2
    return 1 / (tip / 0.44 + (1 - tip) / 0.18)


def _flowers(x: Field, y: Field) -> Field:
    petals = _scattered(x, y, lambda angle: 0.28 + 0.12 * np.cos(5 * angle))
    return np.where(_scattered(x, y, lambda angle: 0.11) > 0, 0.0, petals)


def _hearts(x: Field, y: Field) -> Field:
    def heart(a: Field, b: Field) -> Field:
        u, v = (a % 1 - 0.5) * 3.3, (0.53 - b % 1) * 3.3
        return (u**2 + v**2 - 1) ** 3 - u**2 * v**3 < 0

    return heart(x, y + 0.25 * (np.floor(x) % 2) * 2) * 1.0


def _scattered(x: Field, y: Field, radius: Callable[[Field], Field | float]) -> Field:
    shifted = y + 0.5 * (np.floor(x) % 2)
    angle = np.arctan2(x % 1 - 0.5, 0.5 - shifted % 1)
    return (_from_centre(x, shifted) < radius(angle)) * 1.0


def _from_centre(x: Field, y: Field) -> Field:
    return np.hypot(x % 1 - 0.5, y % 1 - 0.5)


PATTERNS: dict[str, Callable[[Field, Field], Field]] = {
    "horizontal stripes": lambda x, y: _stripes(y, x),
    "vertical stripes": _stripes,
    "diagonal stripes": _diagonal,
    "gingham": _gingham,
    "checkerboard": _checkerboard,
    "polka dot": _polka,
    "tartan": _tartan,
    "chevron": _chevron,
    "argyle": _argyle,
    "waves": _waves,
    "stars": _stars,
    "hearts": _hearts,
    "flowers": _flowers,
    "triangles": _triangles,
    "houndstooth": _houndstooth,
    "grid": _grid,
    "herringbone": textiles.herringbone,
    "damask": textiles.damask,
    "paisley": textiles.paisley,
    "ikat": textiles.ikat,
    "scallops": textiles.scallops,
    "leaves": textiles.leaves,
}
"""What each pattern covers: (x, y) in repeats -> share of the second colour, 0 to 1."""

WORDS: dict[str, tuple[str, ...]] = {
    "horizontal stripes": ("horizontal stripes", "horizontally striped"),
    "vertical stripes": ("vertical stripes", "vertically striped", "stripes"),
    "diagonal stripes": ("diagonal stripes", "diagonally striped"),
    "gingham": ("gingham", "gingham check"),
    "checkerboard": ("checkerboard", "checkered", "checks"),
    "polka dot": ("polka dot", "polka dots", "dotted", "dots"),
    "tartan": ("tartan", "plaid"),
    "chevron": ("chevron", "zigzag"),
    "argyle": ("argyle", "diamonds"),
    "waves": ("waves", "wavy", "wave"),
    "stars": ("stars", "star"),
    "hearts": ("hearts", "heart"),
    "flowers": ("floral", "flowers", "flower"),
    "triangles": ("triangles", "triangle"),
    "houndstooth": ("houndstooth",),
    "grid": ("grid", "windowpane check"),
    "herringbone": ("herringbone",),
    "damask": ("damask",),
    "paisley": ("paisley",),
    "ikat": ("ikat",),
    "scallops": ("scallops", "fish scale", "scalloped"),
    "leaves": ("leaves", "leaf", "foliage"),
}
"""The words a caption may use; the first is the one of the evaluation."""

MOTIFS = {
    "stars": "stars",
    "hearts": "hearts",
    "flowers": "flowers",
    "polka dot": "polka dots",
    "triangles": "triangles",
    "vertical stripes": "stripes",
    "horizontal stripes": "horizontal stripes",
    "waves": "waves",
    "leaves": "leaves",
}
"""Patterns of things lying on a ground, worded "yellow stars on blue"."""

REPEATS = (2, 3, 4)
"""How often a pattern repeats across the picture: coarse, so that a small model can learn it."""
EVEN_REPEATS = ("stars", "hearts", "flowers", *textiles.HALF_DROPS)
"""Patterns that close only after two columns."""
FINE = ("houndstooth", "herringbone", "damask", "paisley", "ikat")
"""Patterns with so much in one repeat that they are unreadable when small."""


def cloth(rng: np.random.Generator, pattern: str, colours: list[str]) -> np.ndarray:
    """Draw a pattern, (SIZE, SIZE, 3) uint8; the first colour is the ground, the second the motif.

    Its left edge continues the right one, and its top the bottom.
    """
    cover = _cover(pattern, _repeats(rng, pattern))[..., None]
    ground, motif = (np.asarray(jitter(rng, name), float) for name in colours[:2])
    return (ground * (1 - cover) + motif * cover).round().astype(np.uint8)


def _repeats(rng: np.random.Generator, pattern: str) -> int:
    if pattern in EVEN_REPEATS:
        return 2 if pattern in FINE or rng.random() < 0.6 else 4
    return int(rng.choice((2, 2, 3) if pattern in FINE else REPEATS))


@lru_cache(maxsize=256)
def _cover(pattern: str, repeats: int) -> np.ndarray:
    """Return the share of the second colour in every pixel, (SIZE, SIZE), 0 to 1."""
    at = (np.arange(SIDE) + 0.5) / SIDE * repeats
    fine = PATTERNS[pattern](*np.meshgrid(at, at)).astype(float)
    return fine.reshape(SIZE, OVERSAMPLING, SIZE, OVERSAMPLING).mean((1, 3))


def draw_pattern(rng: np.random.Generator) -> Example:
    """Draw a cloth that fills the picture."""
    if rng.random() < 0.08:
        return _plain(rng)
    pattern = str(rng.choice(list(PATTERNS)))
    colours = contrasting(rng, 2)
    caption = captions.dress_up(rng, describe(rng, pattern, colours))
    return Example(
        image=cloth(rng, pattern, colours),
        caption=caption,
        kind="pattern",
        pattern=pattern,
        colours=tuple(colours),
    )


def describe(rng: np.random.Generator, pattern: str, colours: list[str]) -> str:
    """Word a pattern and its colours, as in "a seamless red and white polka dot pattern"."""
    ground, motif = (say(rng, name) for name in colours)
    if pattern in MOTIFS and rng.random() < 0.4:
        cloth_word = captions.with_article(rng, ground)
        noun = rng.choice(("ground", "background", "fabric"))
        return f"{motif} {MOTIFS[pattern]} on {cloth_word} {noun}"
    pair = captions.listed([ground, motif] if rng.random() < 0.5 else [motif, ground])
    word = rng.choice(WORDS[pattern])
    noun = rng.choice((" pattern", " pattern", " fabric", " textile", " cloth"))
    seamless = "seamless " if rng.random() < 0.35 else ""
    if word.endswith("stripes") and rng.random() < 0.5:
        return f"{pair} {word}"
    return captions.with_article(rng, f"{seamless}{pair} {word}{noun}")


def _plain(rng: np.random.Generator) -> Example:
    name = pick_colours(rng, 1)[0]
    image = np.full((SIZE, SIZE, 3), jitter(rng, name), np.uint8)
    word = rng.choice(("{} background", "plain {} background", "{} fabric", "solid {}"))
    core = captions.with_article(rng, str(word).format(say(rng, name)))
    return Example(
        image=image,
        caption=captions.dress_up(rng, core),
        kind="pattern",
        pattern="plain",
        colours=(name,),
    )
