"""What a U-Net is told of a prompt with weights, or of one that is too long for its text encoder.

Each chunk of a prompt is encoded by itself, just as the pipeline encodes a short prompt; the
cross-attention reads one after the other. A weight multiplies what is said of a token, and the mean
of the chunk is then brought back to what it was, as AUTOMATIC1111 does by default. A mean so near
to 0 that this would need a factor beyond MEAN_FACTORS stays as it became.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from pipelines.chunks import Chunk, count_tokens, read_chunks, room
from studio.prompt_nodes import Section

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from transformers import PreTrainedTokenizerBase

MEAN_FACTORS = (0.5, 2.0)
ENCODERS = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))
"""Names of the components: SDXL has both, its refiner the second alone."""

Version = tuple[Section, ...]
"""What a prompt says at a step."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a version of a prompt became."""

    embeds: torch.Tensor
    """(1, L, D): L tokens of all chunks, D numbers of all encoders."""
    pooled: torch.Tensor | None
    """(1, D'): what SDXL's second encoder says of the first chunk as a whole."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """A tokenizer with its text encoder."""

    tokenizer: PreTrainedTokenizerBase
    model: Any
    is_penultimate: bool
    """Whether the U-Net reads the last layer but one: SDXL's."""

    def encode(self, chunk: Chunk, device: torch.device) -> Embedded:
        """Encode a chunk, and weigh its tokens."""
        ids, weights, mask = (
            torch.tensor([row], device=device) for row in (chunk.ids, chunk.weights, chunk.mask)
        )
        uses_mask = getattr(self.model.config, "use_attention_mask", False)
        said = self.model(
            ids,
            attention_mask=mask if uses_mask else None,
            output_hidden_states=self.is_penultimate,
        )
        states = said.hidden_states[-2] if self.is_penultimate else said[0]
        return Embedded(weigh(states, weights), said[0] if said[0].ndim == 2 else None)


def weigh(states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Multiply what is said of each token (1, L, D) by its weight (1, L)."""
    if bool((weights == 1).all()):
        return states
    weighted = states * weights[..., None].to(states.dtype)
    factor = float(states.float().mean() / weighted.float().mean())
    low, high = MEAN_FACTORS
    return weighted * factor if low <= factor <= high else weighted


def encoders_of(pipeline: DiffusionPipeline) -> Iterator[Encoder]:
    """The text encoders that the U-Net of a pipeline reads."""
    parts = pipeline.components
    for tokenizer, model in ENCODERS:
        if parts.get(tokenizer) is not None and parts.get(model) is not None:
            yield Encoder(parts[tokenizer], parts[model], "text_encoder_2" in parts)


@dataclass(frozen=True, slots=True)
class Embedder:
    """Encodes prompts by all text encoders of a pipeline, each chunk once."""

    encoders: tuple[Encoder, ...]
    pipeline: DiffusionPipeline
    """Looked through for its device, which takes 2 ms, only where something is encoded."""
    _known: dict[tuple[int, Chunk], Embedded] = field(default_factory=dict)

    def fits(self, text: str) -> bool:
        """Whether no encoder would cut a text."""
        tokenizers = (encoder.tokenizer for encoder in self.encoders)
        return all(count_tokens(one, text) <= room(one) for one in tokenizers)

    def count_chunks(self, version: Version) -> int:
        """How many chunks a version takes, one at least."""
        return max(len(read_chunks(encoder.tokenizer, version)) for encoder in self.encoders)

    @torch.no_grad()
    def embed(self, version: Version, length: int) -> Embedded:
        """Encode a version, followed by empty chunks up to `length` of them."""
        states, pooled = [], None
        for number, encoder in enumerate(self.encoders):
            chunks = read_chunks(encoder.tokenizer, version)
            (empty,) = read_chunks(encoder.tokenizer, ())
            chunks += [empty] * (length - len(chunks))
            said = [self._encode(number, chunk) for chunk in chunks]
            states.append(torch.cat([one.embeds for one in said], dim=1))
            pooled = said[0].pooled
        return Embedded(torch.cat(states, dim=-1), pooled)

    def _encode(self, number: int, chunk: Chunk) -> Embedded:
        key = number, chunk
        if key not in self._known:
            device = self.pipeline._execution_device
            self._known[key] = self.encoders[number].encode(chunk, device)
        return self._known[key]
