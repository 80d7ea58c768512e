"""One thing, or two side by side, in a place: "a fox in the snow", "a cat and a dog on mars"."""

from __future__ import annotations

import numpy as np

from lab import captions
from lab.backdrops import BACKDROPS, paint_backdrop
from lab.corpus_objects import describe, pick_tint
from lab.example import Example
from lab.shelf import Shelf, stand


def draw_scene(shelf: Shelf, rng: np.random.Generator) -> Example:
    """Draw one or two things in a place."""
    place = list(BACKDROPS)[rng.integers(len(BACKDROPS))]
    backdrop = BACKDROPS[place]
    picture = paint_backdrop(rng, place)
    concepts = [shelf.pick(rng) for _ in range(2 if rng.random() < 0.25 else 1)]
    tints, phrases, style = [], [], ""
    for concept, x in zip(concepts, (27, 73) if len(concepts) == 2 else (50,), strict=True):
        tint = pick_tint(rng, concept, 0.2)
        drawing = shelf.drawing(rng, concept, tint, style)
        side = 42 if len(concepts) == 2 else rng.uniform(58, 70)
        foot = x + rng.uniform(-5, 5), backdrop.foot
        stand(picture, drawing.picture, foot, side, shadow=backdrop.solid)
        phrases.append(describe(rng, concept, tint))
        tints += [tint] if tint else []
        style = drawing.style if style in ("", drawing.style) else style
    words = backdrop.words[rng.integers(len(backdrop.words))]
    core = str(rng.choice((" and ", " and ", " next to ", " beside "))).join(phrases)
    return Example(
        image=np.asarray(picture),
        caption=captions.dress_up(rng, f"{core} {words}", style if len(concepts) == 1 else ""),
        kind="scene",
        thing=concepts[0].name,
        things=tuple(concept.name for concept in concepts),
        place=place,
        colours=tuple(tints),
        style=style if len(concepts) == 1 else "",
    )
