"""The signs in a prompt that weigh and change its words, as AUTOMATIC1111's users write them.

    (red), ((red))        counts 1.1 times, 1.21 times as much
    (red:1.3)             counts 1.3 times as much
    [red]                 counts less: 1 / 1.1
    [red:blue:0.5]        red for the first half of the steps, then blue
    [blue:5]              nothing for 5 steps, then blue
    [red|blue]            red and blue in turn, step by step
    BREAK                 what follows is read apart
    \\( \\) \\[ \\] \\: \\| \\\\  the sign itself

A bracket without its other half is text. Rules and examples: modules/prompt_parser.py of
AUTOMATIC1111, and "Attention/emphasis" and "Prompt editing" in its wiki.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from studio.prompt_nodes import (
    BREAK,
    MAX_WEIGHT,
    Alternating,
    Fragment,
    Node,
    Nodes,
    Prompt,
    Switched,
    Weighted,
)

if TYPE_CHECKING:
    from studio.specs import ModelSpec

SYNTAXES = ("plain", "a1111")
"""How a request's prompts are read. "plain": every sign is text, and what is too long is cut.
"a1111": as above, and what is too long is read in pieces."""
EMPHASIS = 1.1
MAX_DEPTH = 40
"""Brackets nested deeper than this are text."""

_SIGNS = re.compile(r"\\[()\[\]:|\\]|[()\[\]:|]|[^()\[\]:|\\]+|\\")
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*")
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_OPENING = {")": "(", "]": "["}


def is_read_by(spec: ModelSpec) -> bool:
    """Whether a model can follow the signs: those whose U-Net reads what a CLIP says of a text.

    Other text encoders read a prompt as a sentence, brackets and all.
    """
    return spec.prompt_encoder == "clip" and spec.backend == "diffusers"


def is_plain(text: str) -> bool:
    """Whether a prompt says nothing but itself."""
    prompt = parse_prompt(text)
    itself = ((Fragment(text, 1.0),) if text else (),)
    return not prompt.is_changing and prompt.at_step(1, 1) == itself


def parse_prompt(text: str) -> Prompt:
    """Take a prompt apart. No text is an error: what is no sign is text."""
    signs = _SIGNS.findall(text)
    return Prompt(_Reader(signs, _pairs(signs)).nodes(0, len(signs)))


def _pairs(signs: list[str]) -> dict[int, int]:
    """Where each bracket that has its other half ends; those left open in between are text."""
    pairs: dict[int, int] = {}
    opened: list[int] = []
    counts = {"(": 0, "[": 0}
    for place, sign in enumerate(signs):
        if sign in counts:
            opened.append(place)
            counts[sign] += 1
        elif sign in _OPENING and counts[_OPENING[sign]]:
            is_found = False
            while not is_found:
                begin = opened.pop()
                counts[signs[begin]] -= 1
                is_found = signs[begin] == _OPENING[sign]
            if len(opened) < MAX_DEPTH:
                pairs[begin] = place
    return pairs


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns signs, from one place to before another, into nodes."""

    signs: list[str]
    pairs: dict[int, int]

    def nodes(self, begin: int, end: int) -> Nodes:
        found: list[Node] = []
        place = begin
        while place < end:
            closing = self.pairs.get(place)
            if closing is None:
                found += _texts(self.signs[place])
            elif self.signs[place] == "(":
                found.append(self._round(place + 1, closing))
            else:
                found.append(self._square(place + 1, closing))
            place = (closing or place) + 1
        return _joined(found)

    def _round(self, begin: int, end: int) -> Node:
        colons = self._marks(":", begin, end)
        number = self._number_after(colons, end)
        if number is None or abs(float(number)) > MAX_WEIGHT:
            return Weighted(self.nodes(begin, end), EMPHASIS)
        return Weighted(self.nodes(begin, colons[-1]), float(number))

    def _square(self, begin: int, end: int) -> Node:
        bars = self._marks("|", begin, end)
        if bars:
            edges = pairwise([begin - 1, *bars, end])
            return Alternating(tuple(self.nodes(left + 1, right) for left, right in edges))
        colons = self._marks(":", begin, end)
        when = self._number_after(colons, end)
        if when is None or when.startswith("-") or len(colons) > 2:
            return Weighted(self.nodes(begin, end), 1 / EMPHASIS)
        if len(colons) == 1:
            return Switched((), self.nodes(begin, colons[0]), when)
        first, second = colons
        return Switched(self.nodes(begin, first), self.nodes(first + 1, second), when)

    def _marks(self, mark: str, begin: int, end: int) -> list[int]:
        """Where a mark stands between two places, but not inside a bracket there."""
        found, place = [], begin
        while place < end:
            if self.signs[place] == mark:
                found.append(place)
            place = self.pairs.get(place, place) + 1
        return found

    def _number_after(self, colons: list[int], end: int) -> str | None:
        """The number that is all there is between the last colon and a place."""
        text = "".join(self.signs[colons[-1] + 1 : end]) if colons else ""
        found = _NUMBER.fullmatch(text)
        return found[1] if found else None


def _texts(sign: str) -> Iterator[str]:
    """Plain text, with what an escape stands for, and BREAK as a node of its own."""
    if len(sign) == 2 and sign[0] == "\\":
        yield sign[1]
        return
    for number, part in enumerate(_BREAK.split(sign)):
        if number:
            yield BREAK
        if part:
            yield part


def _joined(nodes: list[Node]) -> Nodes:
    """The nodes, texts that follow one another as one."""
    found: list[Node] = []
    for is_text, run in groupby(nodes, lambda node: isinstance(node, str) and node != BREAK):
        same = list(run)
        found += ["".join(map(str, same))] if is_text else same
    return tuple(found)
