"""A prompt that was taken apart: what it says at each step, with which weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

MAX_WEIGHT = 10.0
"""Weights go from -10 to 10."""
BREAK = "\x00"
"""The node between two sections; no text of a prompt holds it."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """Words of one weight; 1 is neither more nor less."""

    text: str
    weight: float


Section: TypeAlias = tuple[Fragment, ...]
"""What stands between two BREAKs."""
Nodes: TypeAlias = "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Weighted:
    """What counts `weight` times as much as it would by itself."""

    nodes: Nodes
    weight: float


@dataclass(frozen=True, slots=True)
class Switched:
    """What changes once."""

    before: Nodes
    after: Nodes
    when: str
    """The last step of `before`, such as "5", or with a point a share of all, such as "0.5"."""

    def at(self, step: int, steps: int) -> Nodes:
        """What it says at a step, counted from 1."""
        last = int(float(self.when) * (steps if "." in self.when else 1))
        return self.before if step <= last else self.after


@dataclass(frozen=True, slots=True)
class Alternating:
    """What changes at every step, in turn."""

    choices: tuple[Nodes, ...]

    def at(self, step: int, steps: int) -> Nodes:
        """What it says at a step, counted from 1."""
        return self.choices[(step - 1) % len(self.choices)]


Node: TypeAlias = str | Weighted | Switched | Alternating


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that was taken apart."""

    nodes: Nodes

    @property
    def is_changing(self) -> bool:
        """Whether it says something else at one step than at another."""
        return _is_changing(self.nodes)

    def at_step(self, step: int, steps: int) -> tuple[Section, ...]:
        """What it says at one of `steps` steps, counted from 1: sections of fragments."""
        sections: list[list[Fragment]] = [[]]
        for text, weight in _flattened(self.nodes, step, steps, 1.0):
            if text == BREAK:
                sections.append([])
            elif sections[-1] and sections[-1][-1].weight == weight:
                sections[-1][-1] = Fragment(sections[-1][-1].text + text, weight)
            else:
                sections[-1].append(Fragment(text, weight))
        return tuple(tuple(section) for section in sections)

    def versions(self, steps: int) -> tuple[tuple[Section, ...], ...]:
        """What it says over all steps, each once."""
        counted = range(1, steps + 1) if self.is_changing else (1,)
        return tuple(dict.fromkeys(self.at_step(step, steps) for step in counted))


def _is_changing(nodes: Nodes) -> bool:
    return any(
        isinstance(node, (Switched, Alternating))
        or (isinstance(node, Weighted) and _is_changing(node.nodes))
        for node in nodes
    )


def _flattened(nodes: Nodes, step: int, steps: int, weight: float) -> Iterator[tuple[str, float]]:
    for node in nodes:
        if isinstance(node, str):
            yield node, weight
        elif isinstance(node, Weighted):
            inner = max(-MAX_WEIGHT, min(MAX_WEIGHT, weight * node.weight))
            yield from _flattened(node.nodes, step, steps, inner)
        else:
            yield from _flattened(node.at(step, steps), step, steps, weight)
