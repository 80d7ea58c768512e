"""The named colours of the corpus: what a colour word means in sRGB."""

from __future__ import annotations

import numpy as np

Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "red": (214, 38, 40),
    "orange": (246, 132, 32),
    "yellow": (252, 218, 56),
    "green": (52, 158, 70),
    "blue": (40, 92, 208),
    "purple": (124, 58, 172),
    "pink": (248, 142, 184),
    "brown": (124, 74, 42),
    "black": (26, 26, 30),
    "white": (250, 250, 250),
    "grey": (142, 142, 148),
    "teal": (0, 122, 124),
    "turquoise": (62, 206, 200),
    "navy": (22, 32, 92),
    "beige": (232, 214, 180),
    "gold": (208, 164, 44),
    "sky blue": (132, 198, 242),
    "lavender": (198, 178, 236),
    "mint": (166, 232, 196),
    "olive": (120, 122, 44),
    "maroon": (122, 22, 38),
}
"""Every basic colour word, far enough from the others to be told apart by eye."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "red": ("crimson", "scarlet"),
    "purple": ("violet",),
    "grey": ("gray",),
    "beige": ("cream", "tan"),
    "navy": ("dark blue", "navy blue"),
    "sky blue": ("light blue", "pale blue"),
    "lavender": ("lilac",),
    "mint": ("light green", "mint green"),
    "gold": ("golden",),
    "pink": ("rose",),
}
"""Other words that a caption may use for the same colour."""

PASTELS = ("pink", "sky blue", "lavender", "mint", "beige")


def jitter(rng: np.random.Generator, name: str, spread: float = 7.0) -> Rgb:
    """Return the sRGB of `name` with a little noise, so that a word is a region and not a point."""
    spread *= 0.35 if name in ("white", "black") else 1.0
    red, green, blue = np.clip(COLOURS[name] + rng.normal(0, spread, 3), 0, 255).astype(int)
    return int(red), int(green), int(blue)


def shade(colour: Rgb, factor: float) -> Rgb:
    """Darken (`factor` < 1) or lighten towards white (`factor` > 1) a colour."""
    values = np.asarray(colour, float)
    values = values * factor if factor <= 1 else values + (255 - values) * (factor - 1)
    red, green, blue = np.clip(values, 0, 255).astype(int)
    return int(red), int(green), int(blue)


def pick_colours(rng: np.random.Generator, count: int, among: tuple[str, ...] = ()) -> list[str]:
    """Return `count` different colour names."""
    names = list(among or COLOURS)
    return [names[index] for index in rng.choice(len(names), count, replace=False)]


def say(rng: np.random.Generator, name: str) -> str:
    """Return the word that a caption uses for the colour: mostly its name, sometimes a synonym."""
    words = SYNONYMS.get(name, ())
    return str(rng.choice(words)) if words and rng.random() < 0.2 else name


def distance(one: str, other: str) -> float:
    """Return how far two named colours lie apart in sRGB, 0 to 441."""
    return float(np.linalg.norm(np.subtract(COLOURS[one], COLOURS[other], dtype=float)))


def contrasting(rng: np.random.Generator, count: int, least: float = 90.0) -> list[str]:
    """Return `count` colour names that can be told apart when they touch."""
    while True:
        names = pick_colours(rng, count)
        pairs = [(a, b) for index, a in enumerate(names) for b in names[index + 1 :]]
        if all(distance(a, b) >= least for a, b in pairs):
            return names
