"""Encodes prompts with a text encoder that is in memory only for as long as that takes.

DeepFloyd IF's T5 is larger than any of its U-Nets. It is loaded alone and freed before they are,
and what it said is kept: the next stage, and the next picture of the same words, need it no more.
"""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from pipelines.device import release_memory
from pipelines.families.assembled import check_files, load_part, variant_files

if TYPE_CHECKING:
    from diffusers import IFPipeline

    from pipelines.loader import Checkpoint
    from studio.request import GenerationRequest

BUDGET_BYTES = 64 * 2**20
"""About 25 prompts and negative prompts in float32."""

Embeddings = Mapping[str, torch.Tensor]
"""`prompt_embeds` and `negative_prompt_embeds`, (1, 77, D) on the CPU."""


class PromptEncoder:
    """Remembers the prompts encoded last, in at most so many bytes.

    Args:
        device: where the text encoder works.
        dtype: of its weights; 8 bits on cuda where bitsandbytes is installed.
        budget_bytes: of what is remembered; what was asked for last stays, however large.
    """

    def __init__(self, device: str, dtype: torch.dtype, budget_bytes: int = BUDGET_BYTES) -> None:
        self.is_quantized = device.startswith("cuda") and _is_installed("bitsandbytes")
        self._device = device
        self._dtype = dtype
        self._budget_bytes = budget_bytes
        self._kept: OrderedDict[tuple[str, str, str], Embeddings] = OrderedDict()

    def recall(self, checkpoint: Checkpoint, request: GenerationRequest) -> Embeddings | None:
        """What the text encoder of a checkpoint said of both prompts, if that is remembered."""
        key = _key(checkpoint, request)
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def encode(self, checkpoint: Checkpoint, request: GenerationRequest) -> Embeddings:
        """Load the text encoder of a checkpoint, encode both prompts, free it.

        Raises:
            ModelUnavailable: a file of it lacks.
        """
        embeddings = self._encode(checkpoint, request)
        release_memory()
        self._kept[_key(checkpoint, request)] = embeddings
        while len(self._kept) > 1 and self._nbytes() > self._budget_bytes:
            self._kept.popitem(last=False)
        return embeddings

    def _encode(self, checkpoint: Checkpoint, request: GenerationRequest) -> Embeddings:
        """Nothing but the embeddings outlives this call."""
        pipeline = self._load(checkpoint)
        prompt_embeds, negative_prompt_embeds = pipeline.encode_prompt(
            request.prompt,
            negative_prompt=request.negative_prompt,
            device=torch.device(self._device),
        )
        return {
            "prompt_embeds": prompt_embeds.cpu(),
            "negative_prompt_embeds": negative_prompt_embeds.cpu(),
        }

    def _load(self, checkpoint: Checkpoint) -> IFPipeline:
        """A pipeline that can do nothing but encode."""
        from diffusers import IFPipeline

        spec, folder = checkpoint.spec, checkpoint.folder
        nothing = dict.fromkeys(
            ("unet", "scheduler", "safety_checker", "feature_extractor", "watermarker")
        )
        return IFPipeline(
            tokenizer=load_part(spec, folder / "tokenizer", "T5Tokenizer", self._dtype, None),
            text_encoder=self._load_encoder(checkpoint),
            requires_safety_checker=False,
            **nothing,
        )

    def _load_encoder(self, checkpoint: Checkpoint) -> torch.nn.Module:
        from transformers import T5EncoderModel

        part = checkpoint.folder / "text_encoder"
        check_files(checkpoint.spec, part, T5EncoderModel)
        return T5EncoderModel.from_pretrained(
            part,
            dtype=self._dtype,
            variant=checkpoint.variant if variant_files(part, checkpoint.variant) else None,
            use_safetensors=True,
            local_files_only=True,
            device_map={"": self._device},
            **self._quantization(),
        ).eval()

    def _quantization(self) -> dict[str, Any]:
        if not self.is_quantized:
            return {}
        from transformers import BitsAndBytesConfig

        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}

    def _nbytes(self) -> int:
        return sum(one.nbytes for kept in self._kept.values() for one in kept.values())


def _key(checkpoint: Checkpoint, request: GenerationRequest) -> tuple[str, str, str]:
    return checkpoint.revision, request.prompt, request.negative_prompt


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
