"""One emoji object on a plain ground, in its own colours or tinted with a named one."""

from __future__ import annotations

import numpy as np
from PIL import Image

from lab import captions
from lab.concepts import Concept
from lab.example import SIZE, Example
from lab.palette import jitter, say
from lab.shelf import TINTS, Shelf, paste, plain_ground

CARTOON_GROUPS = ("animals", "vehicles", "objects", "plants", "food", "people")
"""Groups whose things may take any colour."""

ALREADY_PLURAL = ("grapes", "cherries", "scissors", "glasses")


def draw_object(shelf: Shelf, rng: np.random.Generator) -> Example:
    """Draw one object on a plain ground."""
    concept = shelf.pick(rng)
    tint = pick_tint(rng, concept, 0.35)
    drawing = shelf.drawing(rng, concept, tint)
    ground = plain_ground(rng, [drawing.tone])
    picture = Image.new("RGB", (SIZE, SIZE), jitter(rng, ground))
    centre = 50 + rng.uniform(-4, 4), 50 + rng.uniform(-4, 4)
    paste(picture, drawing.picture, centre, rng.uniform(70, 88))
    where, said = word_ground(rng, ground)
    core = describe(rng, concept, tint) + where
    return Example(
        image=np.asarray(picture),
        caption=captions.dress_up(rng, core, drawing.style),
        kind="object",
        thing=concept.name,
        things=(concept.name,),
        colours=(*said, *([tint] if tint else [])),
        style=drawing.style,
    )


def pick_tint(rng: np.random.Generator, concept: Concept, chance: float) -> str:
    """Return a colour for a thing, or "" for its own colours."""
    if rng.random() > chance or concept.group not in CARTOON_GROUPS:
        return ""
    return TINTS[rng.integers(len(TINTS))]


def word_ground(rng: np.random.Generator, ground: str) -> tuple[str, tuple[str, ...]]:
    """Return the words for a plain ground, and the colours they name; white may go unsaid."""
    if ground == "white" and rng.random() < 0.6:
        return "", ()
    return captions.on_ground(rng, say(rng, ground)), (ground,)


def describe(rng: np.random.Generator, concept: Concept, tint: str = "") -> str:
    """Word an object: "a kitten", "a blue cat"."""
    word = pick_word(rng, concept)
    if concept.name in ALREADY_PLURAL and word.endswith("s"):
        return f"{say(rng, tint)} {word}" if tint else word
    return captions.with_article(rng, f"{say(rng, tint)} {word}" if tint else word)


def pick_word(rng: np.random.Generator, concept: Concept) -> str:
    """Return one of the concept's words, mostly the first."""
    words = concept.words
    return words[0] if rng.random() < 0.6 else words[rng.integers(len(words))]
