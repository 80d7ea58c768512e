"""R-precision: pictures as queries for their own descriptions among others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

CANDIDATES = 100
"""Descriptions that a picture chooses among, its own included."""
SEED = 99
"""Decides which descriptions of others stand beside a picture's own."""

Texts = tuple[str, ...]
"""All descriptions of one picture; mostly one."""


class Embedder(Protocol):
    """Puts pictures and texts into one space: the closer the directions, the better the fit."""

    name: str
    """What the figure says about who ranked, such as "CLIP"."""

    def embed_pictures(self, pictures: Iterable[Image.Image]) -> np.ndarray:
        """Return (N, E), each row of length 1."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return (T, E), each row of length 1."""


@dataclass(frozen=True, slots=True)
class Queries:
    """Which descriptions each picture chooses among."""

    texts: list[str]
    """Every distinct description."""
    candidates: np.ndarray
    """(N, C): numbers of texts; a picture's own come first."""
    relevant: np.ndarray
    """(N, C), bool: which candidates are the picture's own."""

    @property
    def chance(self) -> float:
        """R-precision that guessing would reach."""
        return float(self.relevant.mean(1).mean())


def ask(captions: Sequence[Texts], candidates: int = CANDIDATES, seed: int = SEED) -> Queries:
    """Choose the candidates of every picture: its own descriptions, and others' at random.

    With fewer distinct descriptions than `candidates`, all of them are.
    """
    texts = list(dict.fromkeys(text for own in captions for text in own))
    number = {text: index for index, text in enumerate(texts)}
    count, rng = min(candidates, len(texts)), np.random.default_rng(seed)
    rows = []
    for own in captions:
        mine = list(dict.fromkeys(number[text] for text in own))[:count]
        others = np.setdiff1d(np.arange(len(texts)), mine)
        rows.append([*mine, *rng.choice(others, count - len(mine), replace=False)])
    lengths = np.array([min(len(set(own)), count) for own in captions])
    return Queries(texts, np.array(rows), np.arange(count) < lengths[:, None])


def r_precision(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Return for each query the share of its R relevant candidates among its first R.

    Scores and relevance are (N, C). Of equal scores the irrelevant come first: who cannot tell
    descriptions apart gets nothing for it.
    """
    order = np.lexsort((relevant, -scores), axis=1)
    sorted_relevant = np.take_along_axis(relevant, order, axis=1)
    wanted = relevant.sum(1)
    first = np.arange(relevant.shape[1]) < wanted[:, None]
    return (sorted_relevant & first).sum(1) / wanted


def rank(pictures: np.ndarray, texts: np.ndarray, queries: Queries) -> np.ndarray:
    """Return R-precision of each picture from embeddings of pictures (N, E) and texts (T, E)."""
    scores = [
        texts[chosen] @ picture
        for picture, chosen in zip(pictures, queries.candidates, strict=True)
    ]
    return r_precision(np.stack(scores), queries.relevant)
