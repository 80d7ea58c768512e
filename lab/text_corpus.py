"""The texts that the text encoder is distilled on: captions, words, meanings, and mixtures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lab import captions
from lab.palette import COLOURS, SYNONYMS
from lab.text_words import Word

RELATIONS = (
    "to the left of",
    "left of",
    "to the right of",
    "right of",
    "above",
    "over",
    "below",
    "under",
    "beneath",
    "riding",
    "on",
    "in front of",
    "behind",
    "inside",
    "in",
    "next to",
    "beside",
    "and",
    "with",
)
COUNTS = ("one", "two", "three", "four", "1", "2", "3", "4", "five", "many")
WORD_TEXTS = ("{}", "a {}", "a drawing of a {}", "{} style")
HARDLY_USED = 0.35
"""Share of the words in no common use that are learnt."""


def mixed_texts(
    words: Sequence[Word], things: Sequence[str], count: int, seed: int = 7
) -> list[str]:
    """Return captions about things of the corpus and, as often, about any other word."""
    rng = np.random.default_rng(seed)
    nouns = [word.text for word in words if word.concrete and word.used]
    adjectives = [word.text for word in words if word.used and not word.concrete]
    return [_caption(rng, things, nouns, adjectives) for _ in range(count)]


def word_texts(words: Sequence[Word], seed: int = 8) -> list[str]:
    """Return each word by itself, in one of a few forms."""
    rng = np.random.default_rng(seed)
    known = [word for word in words if word.used or rng.random() < HARDLY_USED]
    return [str(rng.choice(WORD_TEXTS)).format(word.text) for word in known]


def meaning_texts(words: Sequence[Word]) -> list[str]:
    """Return each common word with its meaning: "cottage, a small house with a single story"."""
    return [f"{word.text}, {word.gloss}" for word in words if word.used and word.gloss]


def _caption(
    rng: np.random.Generator,
    things: Sequence[str],
    nouns: Sequence[str],
    adjectives: Sequence[str],
) -> str:
    def some(names: Sequence[str]) -> str:
        return names[rng.integers(len(names))]

    def phrase() -> str:
        noun = some(things) if rng.random() < 0.5 else some(nouns)
        parts = list(_describing(rng, adjectives))
        if rng.random() < 0.15:
            return " ".join([some(COUNTS), *parts, noun + "s"])
        return captions.with_article(rng, " ".join([*parts, noun]))

    core = phrase()
    if rng.random() < 0.55:
        core = f"{core} {some(RELATIONS)} {phrase()}"
    if rng.random() < 0.3:
        core += captions.on_ground(rng, some(_COLOUR_WORDS))
    if rng.random() < 0.1:
        core += f", {some(adjectives)} {some(('style', 'mood', 'colors', 'art'))}"
    return captions.dress_up(rng, core)


_COLOUR_WORDS = (*COLOURS, *(word for words in SYNONYMS.values() for word in words))


def _describing(rng: np.random.Generator, adjectives: Sequence[str]) -> Iterator[str]:
    if rng.random() < 0.5:
        yield _COLOUR_WORDS[rng.integers(len(_COLOUR_WORDS))]
    elif rng.random() < 0.25:
        yield adjectives[rng.integers(len(adjectives))]
