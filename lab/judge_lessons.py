"""What the judge learns from: shards of the corpus, with what captions claim as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lab.corpus import EXTRAS_FROM, ROUND, count_shards, read_shard
from lab.judge import COUNTS, Names
from lab.judge_senses import RELATIONS

MOST_THINGS = 4
"""Things of one caption that are learnt."""
RARE = {"count": 3.0, "relation": 3.0, "pattern": 1.5, "garment": 1.5}
"""Part of the corpus -> how often it is learnt from, where that is not once."""
NOWHERE = -1
"""Label of what a picture does not teach."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """One shard with what its captions claim, as numbers; -1 where they claim nothing."""

    images: np.ndarray
    """(N, H, W, 3), uint8, on disk."""
    captions: list[str]
    things: np.ndarray
    """(N, 4), the first two being those of the relation."""
    patterns: np.ndarray
    counts: np.ndarray
    relations: np.ndarray
    chances: np.ndarray
    """(N,) each; the chances, of being drawn for training, add up to 1."""


def collect_names(rows: list[dict]) -> Names:
    """Return every thing and pattern that captions name."""
    things = {thing for row in rows for thing in _things(row)}
    patterns = {row["pattern"] for row in rows} - {""}
    return Names(tuple(sorted(things)), ("", *sorted(patterns)))


def _things(row: dict) -> list[str]:
    """Return the things of a row; those of rooms carry their colours and are no things' names."""
    if row["kind"] == "room":
        return []
    return [name for name in dict.fromkeys([*row.get("things", ()), row["thing"]]) if name]


def make_lessons(images: np.ndarray, rows: list[dict], names: Names) -> Lessons:
    """Number what captions claim; a name that the judge does not know claims nothing."""
    thing_number = {name: number for number, name in enumerate(names.things)}
    pattern_number = {name: number for number, name in enumerate(names.patterns)}
    things = np.full((len(rows), MOST_THINGS), NOWHERE)
    for place, row in enumerate(rows):
        known = [thing_number.get(name, NOWHERE) for name in _things(row)[:MOST_THINGS]]
        things[place, : len(known)] = known
    chances = np.array([RARE.get(row["kind"], 1.0) for row in rows])
    related = (things[:, 0] >= 0) & (things[:, 1] >= 0)
    relations = np.array([_place(RELATIONS, row.get("relation", "")) for row in rows])
    return Lessons(
        images,
        [row["caption"] for row in rows],
        things,
        np.array([pattern_number.get(row["pattern"], NOWHERE) for row in rows]),
        np.array([_place(COUNTS, row.get("count", 0)) for row in rows]),
        np.where(related, relations, NOWHERE),
        chances / chances.sum(),
    )


def _place(among: tuple, value: object) -> int:
    return among.index(value) if value in among else NOWHERE


def seen_numbers(corpus: Path) -> list[int]:
    """Return the numbers of the shards that the judge learns from: those that are not of stamps."""
    return [number for number in range(count_shards(corpus)) if number % ROUND < EXTRAS_FROM]


def read_lessons(corpus: Path, names: Names, known: list[Lessons]) -> list[Lessons]:
    """Return the lessons of every shard that is drawn by now, those of stamps left out.

    No held-out prompt is of a stamp, and their many names cost the judge its eye for the others.
    """
    fresh = [read_shard(corpus, number) for number in seen_numbers(corpus)[len(known) :]]
    return known + [make_lessons(shard.images, shard.rows, names) for shard in fresh]
