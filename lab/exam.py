"""What is asked of pictures of known captions, by rule and by the judge: right or wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from PIL import Image

from lab.colour_rule import LEAST_SHARE, colour_shares
from lab.example import Example
from lab.judge import BATCH, COUNTS, Judge, Sight
from lab.judge_senses import RELATIONS, prepare, relation_scores
from lab.metrics.intervals import wilson
from lab.metrics.ranking import Queries, ask, r_precision

SEEN_WITHIN = 5
"""Guesses among which a thing must be to count as seen beside another."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the rule and the judge saw in N pictures."""

    shares: list[dict[str, float]]
    """Of every named colour."""
    sight: Sight


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How often a question was answered rightly."""

    name: str
    n: int
    """Answers; of colours there may be several in one picture."""
    share: float
    interval: tuple[float, float]
    chance: float
    """The same pictures shown for other prompts of the same kind of question."""


@torch.inference_mode()
def look(judge: Judge, pictures: Sequence[np.ndarray]) -> Evidence:
    """Look at (H, W, 3) uint8 pictures."""
    sights = [
        judge(prepare(pictures[start : start + BATCH])) for start in range(0, len(pictures), BATCH)
    ]
    joined = (
        torch.cat([getattr(sight, field.name) for sight in sights]) for field in fields(Sight)
    )
    return Evidence([colour_shares(_small(picture)) for picture in pictures], Sight(*joined))


def _small(picture: np.ndarray) -> np.ndarray:
    """Return at most 64 x 64 px, for the rule costs time by the pixel."""
    image = Image.fromarray(picture)
    return np.asarray(image.resize((64, 64), Image.Resampling.BOX) if image.width > 64 else image)


class Exam:
    """The questions about one list of examples; an answer is about one picture and one prompt."""

    def __init__(self, judge: Judge, examples: list[Example]) -> None:
        self.examples = examples
        self._things = {name: number for number, name in enumerate(judge.names.things)}
        self._patterns = {name: number for number, name in enumerate(judge.names.patterns)}
        self._queries: Queries = ask([(example.caption,) for example in examples])
        with torch.inference_mode():
            self._texts = judge.read(self._queries.texts).numpy()
        self.questions: dict[str, Callable[[Evidence, int, int], list[bool]]] = {
            "own caption among 100": self.caption,
            "named colours": self.colours,
            "pattern": self.pattern,
            "one thing, first guess": self.thing,
            "count, 1 to 4": self.count,
            "relation": self.relation,
            "relation, both things seen": self.seen_relation,
        }

    def score(self, evidence: Evidence) -> list[Score]:
        """Return a score for every question that some example asks."""
        scores = [
            self._score(name, question, evidence) for name, question in self.questions.items()
        ]
        return [score for score in scores if score]

    def _score(self, name: str, question: Callable, evidence: Evidence) -> Score | None:
        answers = {
            number: question(evidence, number, number) for number in range(len(self.examples))
        }
        asked = [number for number, answer in answers.items() if answer]
        hits = [hit for number in asked for hit in answers[number]]
        if not hits:
            return None
        moved = np.roll(asked, len(asked) // 2)
        luck = [
            hit
            for picture, prompt in zip(moved, asked, strict=True)
            for hit in question(evidence, int(picture), prompt)
        ]
        share = sum(hits) / len(hits)
        interval = wilson(sum(hits), len(hits))
        chance = sum(luck) / len(luck)
        return Score(name=name, n=len(hits), share=share, interval=interval, chance=chance)

    # Each question takes what was seen, the number of a picture and that of the example whose
    # prompt it is held against; it returns no answer where the prompt does not ask.

    def caption(self, evidence: Evidence, picture: int, prompt: int) -> list[bool]:
        """Is the prompt the closest of 100 captions, as the judge embeds them?"""
        chosen = self._queries.candidates[prompt]
        scores = self._texts[chosen] @ evidence.sight.embedding[picture].numpy()
        return [bool(r_precision(scores[None], self._queries.relevant[prompt][None])[0])]

    def colours(self, evidence: Evidence, picture: int, prompt: int) -> list[bool]:
        """Does each named colour cover enough of the picture?"""
        named = sorted(set(self.examples[prompt].colours))
        return [bool(evidence.shares[picture][name] >= LEAST_SHARE) for name in named]

    def pattern(self, evidence: Evidence, picture: int, prompt: int) -> list[bool]:
        """Is the named pattern the judge's first guess?"""
        wanted = self._patterns.get(self.examples[prompt].pattern)
        return [int(evidence.sight.patterns[picture].argmax()) == wanted] if wanted else []

    def thing(self, evidence: Evidence, picture: int, prompt: int) -> list[bool]:
        """Where one thing is named, is it the judge's first guess?"""
        example = self.examples[prompt]
        alone = example.thing in self._things and len(set(example.things)) <= 1
        if not alone:
            return []
        return [int(evidence.sight.things[picture].argmax()) == self._things[example.thing]]

    def count(self, evidence: Evidence, picture: int, prompt: int) -> list[bool]:
        """Is the named number the judge's first guess?"""
        wanted = self.examples[prompt].count
        if wanted not in COUNTS:
            return []
        return [COUNTS[int(evidence.sight.counts[picture].argmax())] == wanted]

    def relation(self, evidence: Evidence, picture: int, prompt: int) -> list[bool]:
        """Of left, right, above and below, does the named one hold best?"""
        pair = self._related(prompt)
        if not pair:
            return []
        cells = evidence.sight.cells[picture][None]
        best = int(relation_scores(cells, torch.tensor([pair])).argmax())
        return [RELATIONS[best] == self.examples[prompt].relation]

    def seen_relation(self, evidence: Evidence, picture: int, prompt: int) -> list[bool]:
        """Does it hold, and are both things among the judge's first guesses?"""
        guesses = evidence.sight.things[picture].argsort(descending=True)
        first = set(guesses[:SEEN_WITHIN].tolist())
        right = self.relation(evidence, picture, prompt)
        return [right[0] and set(self._related(prompt)) <= first] if right else []

    def _related(self, prompt: int) -> list[int]:
        """Return the numbers of the two things of a relation; none where there is none."""
        example = self.examples[prompt]
        pair = [self._things[name] for name in example.things[:2] if name in self._things]
        related = example.relation in RELATIONS and len(set(pair)) == 2
        return pair if related else []
