"""What a stamp is called, and whether that names a concept that training must not see."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

from lab.captions import plural
from lab.concepts import read_concepts

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHOICE = tomllib.loads(Path(__file__).with_name("stamps.toml").read_text("utf-8"))
"""What is taken from the sources of stamps."""

DROPPED = frozenset(CHOICE["dropped"])
MOST_WORDS = 4


def plain_words(name: str) -> str:
    """Return a file or icon name as the words of a caption; "" where it says no thing.

    "dragon-head" becomes "dragon head", "pine-tree-duo" and "Pine Tree 02" become "pine tree".
    """
    words = [word for word in re.split(r"[\W_]+", name) if word]
    words = [word.lower() for word in words if not word.isdigit() and word != "duo"]
    told = 1 <= len(words) <= MOST_WORDS and all(re.fullmatch(r"[a-z]{2,}", word) for word in words)
    return " ".join(words) if told and not DROPPED & set(words) and len(words[-1]) > 2 else ""


@cache
def _concept_of() -> dict[str, str]:
    """Return every word for a concept -> the concept's name."""
    concepts = read_concepts().values()
    return {word: concept.name for concept in concepts for word in (concept.name, *concept.words)}


def concept_named(words: str) -> str:
    """Return the concept that a stamp's words are a name of, or ""."""
    return _concept_of().get(words, "")


@cache
def _held_out() -> re.Pattern[str]:
    """Match any word, singular or plural, of a concept that training never sees."""
    concepts = [concept for concept in read_concepts().values() if concept.held_out]
    words = {word for concept in concepts for word in (concept.name, *concept.words)}
    every = sorted(words | {plural(word) for word in words}, key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, every))})\b")


def is_held_out(words: str) -> bool:
    """Say whether a stamp shows something that training never sees."""
    return bool(_held_out().search(words))
