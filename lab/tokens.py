"""The tokenizer: CLIP's byte-level BPE with a small vocabulary of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

MAX_TOKENS = 32
VOCABULARY = 8192
START, END = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(captions: Iterable[str], folder: Path) -> CLIPTokenizer:
    """Learn a vocabulary from captions and save the tokenizer to `folder`.

    All 256 bytes are in the vocabulary, so that any text has tokens.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    clip = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    learner.normalizer, learner.pre_tokenizer = clip.normalizer, clip.pre_tokenizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    # A byte at the end of a word is a token of its own: it must exist even if no caption has it.
    closing = [f"{letter}</w>" for letter in sorted(alphabet)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(closing),
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    learned = json.loads(learner.to_str())["model"]
    words = [*sorted(learned["vocab"], key=learned["vocab"].get), *closing, START, END]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    merges = [tuple(merge) for merge in learned["merges"]]
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)
    tokenizer.save_pretrained(folder)
    return load_tokenizer(folder)


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Load a tokenizer that `train_tokenizer` saved."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> np.ndarray:
    """Return token ids, (N, 32) int16, padded and cut as a pipeline does."""
    ids = tokenizer(
        captions, padding="max_length", truncation=True, max_length=MAX_TOKENS
    ).input_ids
    return np.asarray(ids, np.int16)


def word_ends(tokenizer: CLIPTokenizer, ids: np.ndarray) -> list[np.ndarray]:
    """Return for each row of (N, 32) ids the columns of the tokens that end a word, in order.

    A word is a run of letters or one digit, as CLIP's tokenizer splits them.
    """
    ending = np.zeros(len(tokenizer), bool)
    for token, index in tokenizer.get_vocab().items():
        ending[index] = token.endswith("</w>") and token[:-4][-1:].isalnum() and token.isascii()
    return [np.flatnonzero(ending[row]) for row in ids]
