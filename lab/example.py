"""One captioned picture of the corpus, and the rule that keeps some combinations for evaluation."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SETUP = tomllib.loads(Path(__file__).with_name("corpus.toml").read_text("utf-8"))
"""The corpus in numbers: picture size, seed and the shares of its parts."""

SIZE: int = SETUP["size"]
"""Side of a corpus picture, px."""

HELD_OUT_IN = 10
"""One combination in this many is never drawn for training."""

MIRRORED = {"right of": "left of", "below": "above"}
"""A relation -> the one that says the same with its things exchanged."""
PROMISED = (
    "relation|astronaut||mars|riding|horse",
    "building|Victorian city||clouds",
    "garment|dress|polka dot||red|white",
    "room|sofa|||green",
)
"""Combinations of the home page's prompts: training always sees them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A picture and everything its caption claims about it."""

    image: np.ndarray
    """(SIZE, SIZE, 3), uint8."""
    caption: str
    kind: str
    """Part of the corpus, a key of the shares in corpus.toml."""
    colours: tuple[str, ...] = ()
    """Canonical names of the colours that the caption names."""
    pattern: str = ""
    thing: str = ""
    """Name of the main object, "" where there is none."""
    place: str = ""
    """Name of the place behind it, "" for a plain ground."""
    things: tuple[str, ...] = ()
    """Every object that the caption names, `thing` first."""
    count: int = 0
    """How many of `thing` there are where the caption says a number, 1 to 4; else 0."""
    relation: str = ""
    """How `things[0]` lies to `things[1]`: "left of", "above", "riding"...; "" for no relation."""
    style: str = ""
    """Source of the drawings ("noto", "fluent-3d"...), "" for our own."""

    @property
    def combination(self) -> str:
        """What decides about hold-out: things, pattern, place and colours, whatever the wording."""
        ends = self.things[1::-1] if self.relation in MIRRORED else self.things[:2]
        related = (MIRRORED.get(self.relation, self.relation), *ends[1:]) if self.relation else ()
        first = ends[0] if related else self.thing
        number = (str(self.count),) if self.count else ()
        colours = sorted(set(self.colours))
        return "|".join((self.kind, first, self.pattern, self.place, *related, *number, *colours))

    @property
    def held_out(self) -> bool:
        """Say whether this combination is kept for evaluation (by hash: the same everywhere)."""
        if not (self.colours or self.place or self.relation or self.count):
            return False  # nothing is combined: holding "a cat" out would hold the concept out
        if self.combination in PROMISED:
            return False
        return sha256(self.combination.encode()).digest()[0] % HELD_OUT_IN == 0
