"""The things that emoji draw, their words, and which of them training never sees."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONCEPTS = Path(__file__).with_name("concepts.toml")

HELD_OUT_CONCEPTS = 0.18
"""Share of the concepts that training never sees, of those that are not promised: 15 % of all."""
HELD_OUT_STYLES = ("streamline-emojis",)
"""Styles that training never sees."""
PROMISED = (
    *("astronaut", "horse", "cat", "dog", "fish", "bird", "frog", "bear", "dragon", "robot"),
    *("tree", "pine tree", "rose", "apple", "lemon", "cake", "ice cream", "pizza"),
    *("car", "ship", "rocket", "bell", "mountain", "star", "moon", "sun", "fire"),
)
"""Concepts that the home page shows or that visitors ask for first: training always sees them."""


@dataclass(frozen=True, slots=True)
class Concept:
    """A thing that emoji draw."""

    name: str
    group: str
    words: tuple[str, ...]
    icons: tuple[str, ...]

    @property
    def held_out(self) -> bool:
        """Say whether training never sees this concept (by hash: the same everywhere)."""
        score = int.from_bytes(sha256(f"concept: {self.name}".encode()).digest()[:4], "big")
        return score < HELD_OUT_CONCEPTS * 2**32 and self.name not in PROMISED


def read_concepts() -> dict[str, Concept]:
    """Return every concept by name, in the order of concepts.toml."""
    groups = tomllib.loads(CONCEPTS.read_text("utf-8"))
    return {
        name: Concept(
            name,
            group,
            tuple(row.get("words", [name])),
            tuple(row.get("icons", [name.replace(" ", "-")])),
        )
        for group, rows in groups.items()
        for name, row in rows.items()
    }
