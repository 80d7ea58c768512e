"""One to four of one thing, neatly laid out, with the number in words or digits."""

from __future__ import annotations

import numpy as np
from PIL import Image

from lab import captions
from lab.concepts import Concept
from lab.corpus_objects import ALREADY_PLURAL, pick_tint, pick_word, word_ground
from lab.example import SIZE, Example
from lab.palette import jitter, say
from lab.shelf import Point, Shelf, paste, plain_ground

UNCOUNTED = (
    *ALREADY_PLURAL,
    *("bread", "broccoli", "sushi", "cheese", "corn", "fire", "lightning", "santa claus"),
    *("bouquet", "cherry blossom", "rainbow", "sun", "moon", "mountain", "volcano"),
)
"""Things of which nobody says how many, or whose drawing shows several."""

NUMBERS = {1: ("one", "1", "a single"), 2: ("two", "2"), 3: ("three", "3"), 4: ("four", "4")}

LAYOUTS: dict[int, tuple[tuple[float, tuple[Point, ...]], ...]] = {
    1: ((66, ((50, 50),)),),
    2: ((44, ((26, 50), (74, 50))), (44, ((26, 50), (74, 50))), (46, ((28, 28), (72, 72)))),
    3: (
        (42, ((50, 27), (26, 73), (74, 73))),
        (42, ((26, 27), (74, 27), (50, 73))),
        (31, ((17, 50), (50, 50), (83, 50))),
    ),
    4: ((42, ((26, 26), (74, 26), (26, 74), (74, 74))),),
}
"""How many -> side and middles of the things in percent, one of several layouts."""


def draw_count(shelf: Shelf, rng: np.random.Generator) -> Example:
    """Draw one to four of one thing on a plain ground."""
    concept = _countable(shelf, rng)
    count = int(rng.integers(1, 5))
    tint = pick_tint(rng, concept, 0.3)
    drawing = shelf.drawing(rng, concept, tint)
    ground = plain_ground(rng, [drawing.tone])
    picture = Image.new("RGB", (SIZE, SIZE), jitter(rng, ground))
    layouts = LAYOUTS[count]
    side, middles = layouts[rng.integers(len(layouts))]
    shift, side = rng.uniform(-2, 2, 2), side * rng.uniform(0.9, 1.04)
    for x, y in middles:
        paste(picture, drawing.picture, (x + shift[0], y + shift[1]), side)
    where, said = word_ground(rng, ground)
    return Example(
        image=np.asarray(picture),
        caption=captions.dress_up(rng, _word(rng, concept, count, tint) + where, drawing.style),
        kind="count",
        thing=concept.name,
        things=(concept.name,),
        count=count,
        colours=(*said, *([tint] if tint else [])),
        style=drawing.style,
    )


def _countable(shelf: Shelf, rng: np.random.Generator) -> Concept:
    while True:
        concept = shelf.pick(rng)
        if concept.name not in UNCOUNTED:
            return concept


def _word(rng: np.random.Generator, concept: Concept, count: int, tint: str) -> str:
    """Say how many there are: "three red apples", "2 cats", "a single bird"."""
    words = NUMBERS[count]
    number = words[0] if rng.random() < 0.6 else words[rng.integers(len(words))]
    # A word such as "person riding a bicycle" has its noun in front.
    noun = pick_word(rng, concept)
    noun = concept.name if " riding " in noun or " with " in noun or "ing " in noun else noun
    thing = f"{say(rng, tint)} {noun}" if tint else noun
    group = "a group of " if count > 2 and rng.random() < 0.1 else ""
    return f"{group}{number} {captions.plural(thing) if count > 1 else thing}"
