"""How pictures and captions come to the judge, and how what lies where is told from its cells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from zlib import crc32

import numpy as np
import torch
from PIL import Image

SIDE = 64
"""Side at which the judge looks, px."""
WORD_BUCKETS, PAIR_BUCKETS = 4096, 8192
"""Places for words, and for pairs of neighbouring words, in the text's table."""
RELATIONS = ("left of", "right of", "above", "below")


def prepare(pictures: Sequence[Image.Image | np.ndarray]) -> torch.Tensor:
    """Return pictures of any size as a judge sees them, (B, 3, 64, 64) in [-1, 1]."""
    images = [one if isinstance(one, Image.Image) else Image.fromarray(one) for one in pictures]
    small = [image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX) for image in images]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in small]))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def word_buckets(caption: str) -> list[int]:
    """Return where the words of a caption, and its pairs of neighbours, stand in the table."""
    words = re.findall(r"[^\W_]+", caption.lower())
    pairs = [f"{one} {other}" for one, other in zip(words, words[1:], strict=False)]
    return [crc32(word.encode()) % WORD_BUCKETS for word in words or [""]] + [
        WORD_BUCKETS + crc32(pair.encode()) % PAIR_BUCKETS for pair in pairs
    ]


def relation_scores(cells: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Return (B, 4) scores of RELATIONS from cells (B, things, S, S), for pairs of things (B, 2).

    A thing lies where its cells are; one is left of another as far as its centre is.
    """
    chosen = cells.gather(1, pairs[:, :, None, None].expand(-1, -1, *cells.shape[2:]))
    weight = chosen.flatten(2).softmax(2).view_as(chosen)
    along = torch.arange(cells.shape[-1], dtype=torch.float32)
    x, y = (weight.sum(2) * along).sum(2), (weight.sum(3) * along).sum(2)
    right, down = x[:, 0] - x[:, 1], y[:, 0] - y[:, 1]
    return torch.stack([-right, right, -down, down], 1)
