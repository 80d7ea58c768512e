"""Two different things of which the caption says how they lie to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lab import captions
from lab.backdrops import BACKDROPS, paint_backdrop
from lab.concepts import Concept
from lab.containers import CONTAINERS, layer
from lab.corpus_fetch import Drawing
from lab.corpus_objects import describe, pick_tint, word_ground
from lab.example import MIRRORED, SIZE, Example
from lab.palette import contrasting, jitter, say
from lab.shelf import Shelf, paste, plain_ground, stand

MOUNTS = (
    *("horse", "elephant", "camel", "unicorn", "dinosaur", "zebra", "cow", "pig", "turtle"),
    *("bicycle", "motorcycle", "skateboard", "dragon", "giraffe", "dolphin", "scooter"),
)
RIDERS = (
    *("astronaut", "robot", "cat", "dog", "bear", "panda", "frog", "princess", "ninja", "monkey"),
    *("teddy bear", "penguin", "clown", "alien", "rabbit", "fox", "koala", "owl"),
)
SMALL = ("animals", "food", "plants", "people", "objects")

WORDS: dict[str, tuple[str, ...]] = {
    "left of": (
        "{0} to the left of {1}",
        "{0} left of {1}",
        "{0} on the left of {1}",
        "{0} on the left and {1} on the right",
    ),
    "right of": (
        "{0} to the right of {1}",
        "{0} right of {1}",
        "{0} on the right of {1}",
        "{0} on the right and {1} on the left",
    ),
    "above": ("{0} above {1}", "{0} above {1}", "{0} over {1}", "{0} high above {1}"),
    "below": ("{0} below {1}", "{0} below {1}", "{0} under {1}", "{0} beneath {1}"),
    "riding": ("{0} riding {1}", "{0} riding {1}", "{0} riding on {1}", "{0} on the back of {1}"),
    "in front of": ("{0} in front of {1}", "{0} in front of {1}", "{0} with {1} behind it"),
    "inside": ("{0} inside {1}", "{0} in {1}", "{0} inside of {1}"),
}
"""Relation -> how it is worded, {0} and {1} in that order."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two things to draw: the words and colours they take in the caption."""

    concepts: tuple[Concept, Concept]
    drawings: tuple[Drawing, Drawing]
    phrases: tuple[str, str]
    tints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ground:
    """What lies behind the things: a picture, its words, and where a foot stands in percent."""

    picture: Image.Image
    words: str
    place: str = ""
    colours: tuple[str, ...] = ()
    foot: float = 0
    solid: bool = False
    """Whether things cast a shadow on it."""


def draw_relation(shelf: Shelf, rng: np.random.Generator) -> Example:
    """Draw two things in a relation, on plain ground or in a place."""
    arrange = ARRANGEMENTS[rng.integers(len(ARRANGEMENTS))]
    return arrange(shelf, rng)


def _beside(shelf: Shelf, rng: np.random.Generator) -> Example:
    pair = _pair(shelf, rng, shelf.pick(rng), shelf.pick(rng))
    ground = _ground(rng, pair, 0.35)
    if ground.place:
        for drawing, x in zip(pair.drawings, (27, 73), strict=True):
            stand(ground.picture, drawing.picture, (x, ground.foot), 42, shadow=ground.solid)
    else:
        for drawing, x in zip(pair.drawings, (26, 74), strict=True):
            paste(ground.picture, drawing.picture, (x, 50 + rng.uniform(-3, 3)), 45)
    return _tell(rng, pair, ground, "left of")


def _over(shelf: Shelf, rng: np.random.Generator) -> Example:
    pair = _pair(shelf, rng, shelf.pick(rng), shelf.pick(rng))
    ground = _ground(rng, pair, 0.35)
    paste(ground.picture, pair.drawings[0].picture, (50 + rng.uniform(-4, 4), 26), 42)
    if ground.place:
        stand(ground.picture, pair.drawings[1].picture, (50, 94), 42, shadow=ground.solid)
    else:
        paste(ground.picture, pair.drawings[1].picture, (50 + rng.uniform(-4, 4), 74), 42)
    return _tell(rng, pair, ground, "above")


def _riding(shelf: Shelf, rng: np.random.Generator) -> Example:
    home = rng.random() < 0.35
    rider = shelf.among(rng, ("astronaut",) if home else RIDERS)
    mount = shelf.among(rng, ("horse",) if home or rng.random() < 0.2 else MOUNTS)
    pair = _pair(shelf, rng, rider, mount, tinting=0.1)
    ground = _ground(rng, pair, 0.7, "mars" if home and rng.random() < 0.6 else "")
    foot, (above, below) = ground.foot or 90, pair.drawings
    side = rng.uniform(58, 64)
    tall = side * below.picture.height / max(below.picture.size)
    x = 50 + rng.uniform(-4, 4)
    if ground.solid:
        stand(ground.picture, below.picture, (x, foot), side)
    # The mount comes last, over the rider's legs: so one sits on it instead of floating before it.
    stand(ground.picture, above.picture, (x, foot - tall * 0.7 + 3), 42, shadow=False)
    stand(ground.picture, below.picture, (x, foot), side, shadow=False)
    return _tell(rng, pair, ground, "riding")


def _before(shelf: Shelf, rng: np.random.Generator) -> Example:
    behind = shelf.pick(rng, ("landmarks", "vehicles", "plants", "sky", "objects"))
    pair = _pair(shelf, rng, shelf.pick(rng, ("animals", "people", "food")), behind)
    ground = _ground(rng, pair, 0.35)
    way = 1 if rng.random() < 0.5 else -1
    foot = ground.foot or 88
    front, back = pair.drawings
    stand(ground.picture, back.picture, (50 - way * 10, foot - 4), 66, shadow=ground.solid)
    stand(ground.picture, front.picture, (50 + way * 20, foot + 6), 44, shadow=ground.solid)
    return _tell(rng, pair, ground, "in front of")


def _inside(shelf: Shelf, rng: np.random.Generator) -> Example:
    name = list(CONTAINERS)[rng.integers(len(CONTAINERS))]
    container, concept = CONTAINERS[name], shelf.pick(rng, SMALL)
    drawing = shelf.drawing(rng, concept)
    colour, ground = contrasting(rng, 2)
    ground = "white" if colour != "white" and rng.random() < 0.5 else ground
    picture = Image.new("RGB", (SIZE, SIZE), jitter(rng, ground))
    shown = jitter(rng, colour)
    back, front = layer(container.back, shown), layer(container.front, shown)
    picture.paste(back, (0, 0), back)
    paste(picture, drawing.picture, (50, container.middle), container.side)
    picture.paste(front, (0, 0), front)
    where, said = word_ground(rng, ground)
    holder = f"a {say(rng, colour)} {name}"
    holder = captions.with_article(rng, holder.removeprefix("a "), 1)
    words = _wording(rng, "inside").format(describe(rng, concept), holder)
    return Example(
        image=np.asarray(picture),
        caption=captions.dress_up(rng, words + where, drawing.style),
        kind="relation",
        thing=concept.name,
        things=(concept.name, name),
        relation="inside",
        colours=(colour, *said),
        style=drawing.style,
    )


Arrangement = Callable[[Shelf, np.random.Generator], Example]
ARRANGEMENTS: tuple[Arrangement, ...] = (
    *(_beside, _beside, _beside, _beside, _over, _over, _over, _over),
    *(_riding, _riding, _before, _inside),
)
"""How two things may lie; the commoner, the oftener."""


def _pair(
    shelf: Shelf, rng: np.random.Generator, one: Concept, other: Concept, tinting: float = 0.2
) -> Pair:
    """Return two different things in one style where both have it."""
    while other.name == one.name:
        other = shelf.pick(rng)
    tints = (pick_tint(rng, one, tinting), pick_tint(rng, other, tinting))
    first = shelf.drawing(rng, one, tints[0])
    second = shelf.drawing(rng, other, tints[1], first.style)
    phrases = describe(rng, one, tints[0]), describe(rng, other, tints[1])
    said = tuple(tint for tint in tints if tint)
    return Pair((one, other), (first, second), phrases, said)


def _ground(rng: np.random.Generator, pair: Pair, chance: float, place: str = "") -> Ground:
    """Return a place with some chance, else a plain ground on which neither thing drowns."""
    if place or rng.random() < chance:
        name = place or list(BACKDROPS)[rng.integers(len(BACKDROPS))]
        backdrop = BACKDROPS[name]
        words = f" {backdrop.words[rng.integers(len(backdrop.words))]}"
        picture = paint_backdrop(rng, name)
        return Ground(picture, words, name, (), backdrop.foot, backdrop.solid)
    name = plain_ground(rng, [drawing.tone for drawing in pair.drawings])
    words, said = word_ground(rng, name)
    return Ground(Image.new("RGB", (SIZE, SIZE), jitter(rng, name)), words, "", said)


def _tell(rng: np.random.Generator, pair: Pair, ground: Ground, relation: str) -> Example:
    """Word a relation from either end: what is left of another has that on its right."""
    turned = {value: key for key, value in MIRRORED.items()}
    names, phrases = [concept.name for concept in pair.concepts], pair.phrases
    if relation in turned and rng.random() < 0.5:
        relation, names, phrases = turned[relation], names[::-1], phrases[::-1]
    core = _wording(rng, relation).format(*phrases) + ground.words
    styles = {drawing.style for drawing in pair.drawings}
    style = styles.pop() if len(styles) == 1 else ""
    return Example(
        image=np.asarray(ground.picture),
        caption=captions.dress_up(rng, core, style),
        kind="relation",
        thing=names[0],
        things=tuple(names),
        relation=relation,
        place=ground.place,
        colours=(*pair.tints, *ground.colours),
        style=style,
    )


def _wording(rng: np.random.Generator, relation: str) -> str:
    words = WORDS[relation]
    return words[0] if rng.random() < 0.5 else words[rng.integers(len(words))]
