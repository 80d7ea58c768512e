"""Words that were taught to a model by textual inversion (Gal et al. 2022, arXiv:2208.01618).

diffusers' own loader is not used: it takes a word inside a longer one for the word, finds it in
small letters only, and with CLIP configs of before 2023 moves the place where SDXL's second
encoder sums a text up. Here each vector gets a token that no text holds, and the prompts are
written anew with them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from studio.adapters import check_word
from studio.errors import InvalidRequest
from studio.request import GenerationRequest
from studio.weights import SDXL_PAIRS, check_fits, read_weights

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from studio.specs import ModelSpec

ENDS = ("", "_2")
"""Ends of the names of the components: SDXL has two tokenizers and text encoders."""
NAMELESS = {"emb_params", "*"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingFile:
    """One embedding of a request, on this machine."""

    path: Path
    name: str
    """What the visitor calls the file."""
    word: str | None
    """The word that the visitor gave it; None is the file's own."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word, and the tokens that stand for its vectors."""

    text: str
    tokens: tuple[str, ...]


def check_embeddings(files: Sequence[EmbeddingFile], spec: ModelSpec) -> None:
    """Refuse what is no embedding for this model; raises InvalidRequest."""
    for file in files:
        weights = read_weights(file.path, file.name)
        check_fits(weights, "embedding", file.name, spec.base, spec.title)


def teach_words(
    pipeline: DiffusionPipeline, files: Sequence[EmbeddingFile], spec: ModelSpec
) -> tuple[Word, ...]:
    """Add words to the tokenizers and text encoders of a pipeline, which nobody else uses.

    Raises:
        InvalidRequest: the vectors have another length than the model's, or two words are alike.
    """
    words: dict[str, Word] = {}
    for number, file in enumerate(files):
        tensors = _read(file.path)
        text = file.word or _own_word(tensors, file)
        if text.lower() in words:
            raise InvalidRequest(f"Two embeddings have the word “{text}”: give one another.")
        tokens: tuple[str, ...] = ()
        for end, vectors in _by_encoder(tensors, pipeline, file, spec).items():
            tokens = tuple(f"<croquis-{number}-{index}>" for index in range(len(vectors)))
            _add_tokens(pipeline, end, tokens, vectors)
        words[text.lower()] = Word(text, tokens)
    return tuple(words.values())


def with_tokens(request: GenerationRequest, words: Sequence[Word]) -> GenerationRequest:
    """The request with tokens in both prompts where its words stand, whatever their case."""
    prompts = (request.prompt, request.negative_prompt)
    for word in words:
        prompts = tuple(_pattern(word).sub(" ".join(word.tokens), prompt) for prompt in prompts)
    return replace(request, prompt=prompts[0], negative_prompt=prompts[1])


def unused_words(request: GenerationRequest, words: Sequence[Word]) -> list[str]:
    """The words that neither prompt holds: such an embedding has no effect."""
    text = f"{request.prompt}\n{request.negative_prompt}"
    return [word.text for word in words if not _pattern(word).search(text)]


def _pattern(word: Word) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w<]){re.escape(word.text)}(?![\w>])", re.IGNORECASE)


def _read(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _own_word(tensors: Mapping[str, Any], file: EmbeddingFile) -> str:
    """The word inside a file of diffusers, or the file's name."""
    inside = [name for name in tensors if name not in NAMELESS]
    return check_word(inside[0] if len(tensors) == 1 and inside else Path(file.name).stem)


def _by_encoder(
    tensors: Mapping[str, torch.Tensor],
    pipeline: DiffusionPipeline,
    file: EmbeddingFile,
    spec: ModelSpec,
) -> dict[str, torch.Tensor]:
    """The vectors (N, width) for each text encoder, by the end of its component's name.

    Raises:
        InvalidRequest: an encoder of the model gets none, or of another width.
    """
    found = {"": tensors.get("emb_params", next(iter(tensors.values())))}
    for pair in SDXL_PAIRS:
        if tensors.keys() == {*pair}:
            found = {end: tensors[name] for end, name in zip(ENDS, pair, strict=True)}
    found = {end: torch.atleast_2d(vectors) for end, vectors in found.items()}
    names = [f"text_encoder{end}" for end in ENDS]
    encoders = {
        name.removeprefix("text_encoder"): pipeline.components[name]
        for name in names
        if pipeline.components.get(name) is not None
    }
    widths = {end: _table(encoder).embedding_dim for end, encoder in encoders.items()}
    given = {end: vectors.shape[-1] for end, vectors in found.items()}
    if given != widths or len({len(vectors) for vectors in found.values()}) != 1:
        raise InvalidRequest(
            f"“{file.name}” has vectors of {_listed(given)} numbers, {spec.title} reads "
            f"{_listed(widths)}. Choose an embedding that was made for this model."
        )
    return found


def _listed(widths: Mapping[str, int]) -> str:
    return " and ".join(str(width) for width in widths.values())


def _add_tokens(
    pipeline: DiffusionPipeline, end: str, tokens: Sequence[str], vectors: torch.Tensor
) -> None:
    """Add tokens to one tokenizer, and a longer table with their vectors to its encoder."""
    tokenizer = pipeline.components[f"tokenizer{end}"]
    encoder = pipeline.components[f"text_encoder{end}"]
    tokenizer.add_tokens(list(tokens))
    places = tokenizer.convert_tokens_to_ids(list(tokens))
    old = _table(encoder).weight
    rows = torch.zeros(max(len(old), *(place + 1 for place in places)), old.shape[1])
    table = nn.Embedding.from_pretrained(rows.to(old.device, old.dtype))
    table.weight[: len(old)] = old
    table.weight[places] = vectors.to(old.device, old.dtype)
    encoder.set_input_embeddings(table)
    # Configs of before 2023 say 2, on which CLIP sums up at the token of the highest number.
    getattr(encoder, "text_model", encoder).eos_token_id = tokenizer.eos_token_id


def _table(encoder: Any) -> Any:
    return encoder.get_input_embeddings()
