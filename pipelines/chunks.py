"""Cuts a prompt into chunks of as many tokens as a CLIP text encoder reads at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.prompt_nodes import Section

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARKS = 2
"""Tokens of a chunk that are no words: its start and its end."""
FAR = 20 / 75
"""Share of a chunk, at its end, in which a comma or the end of a word is looked for to cut at:
AUTOMATIC1111's 20 tokens of 75."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a text encoder reads at once; each tuple is as long as it can read."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    mask: tuple[int, ...]
    """0 where nothing but padding is."""


@dataclass(frozen=True, slots=True)
class _Token:
    id: int
    text: str
    weight: float


def room(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens of words fit into one chunk: 75 with Stable Diffusion."""
    return int(tokenizer.model_max_length) - MARKS


def count_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """How many tokens the words of a text are."""
    return len(_ids(tokenizer, text))


def read_chunks(tokenizer: PreTrainedTokenizerBase, sections: tuple[Section, ...]) -> list[Chunk]:
    """The chunks of one version of a prompt; one, if it says nothing.

    A section begins with a chunk of its own. A chunk that is full ends at a comma, or with a
    word, if there is one near its end.
    """
    size = room(tokenizer)
    chunks = []
    for section in sections:
        tokens = list(_tokens(tokenizer, section))
        while tokens:
            end = len(tokens) if len(tokens) <= size else _cut(tokens, size)
            chunks.append(_framed(tokenizer, tokens[:end]))
            tokens = tokens[end:]
    return chunks or [_framed(tokenizer, [])]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)


def _tokens(tokenizer: PreTrainedTokenizerBase, section: Section) -> Iterator[_Token]:
    for fragment in section:
        ids = _ids(tokenizer, fragment.text)
        texts = tokenizer.convert_ids_to_tokens(ids)
        for number, text in zip(ids, texts, strict=True):
            yield _Token(number, text, fragment.weight)


def _cut(tokens: list[_Token], size: int) -> int:
    """How many of the first `size` tokens make a chunk."""
    ends = range(size, max(0, size - round(FAR * size)), -1)
    after_comma = (end for end in ends if tokens[end - 1].text == ",</w>")
    after_word = (end for end in ends if tokens[end - 1].text.endswith("</w>"))
    return next(after_comma, next(after_word, size))


def _framed(tokenizer: PreTrainedTokenizerBase, tokens: list[_Token]) -> Chunk:
    """The tokens between the marks of start and end, padded as the tokenizer pads."""
    padding = room(tokenizer) - len(tokens)
    ids = [token.id for token in tokens]
    return Chunk(
        ids=(
            tokenizer.bos_token_id,
            *ids,
            tokenizer.eos_token_id,
            *[tokenizer.pad_token_id] * padding,
        ),
        weights=(1.0, *(token.weight for token in tokens), 1.0, *[1.0] * padding),
        mask=(1, *[1] * len(ids), 1, *[0] * padding),
    )
