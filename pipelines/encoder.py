"""Encodes prompts with a text encoder that is in memory only for as long as that takes.

DeepFloyd IF's T5 is larger than any of its U-Nets. It is loaded alone and freed before they are,
and what it said is kept: the next stage, and the next picture of the same words, need it no more.
"""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pipelines.device import release_memory
from pipelines.families.assembled import check_files, load_part, variant_of
from studio.specs import TEXT_ENCODER

if TYPE_CHECKING:
    from diffusers import IFPipeline

    from pipelines.checkpoints import Checkpoint, OnMessage
    from pipelines.manager import PipelineManager
    from studio.request import GenerationRequest

BUDGET_BYTES = 64 * 2**20
"""About 25 prompts and negative prompts in float16."""

Embeddings = Mapping[str, torch.Tensor]
"""`prompt_embeds` and `negative_prompt_embeds`, (1, 77, D) on the CPU."""


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A text encoder in memory, in a pipeline that can do nothing else."""

    pipeline: IFPipeline
    revision: str
    nbytes: int

    def encode(self, request: GenerationRequest) -> Embeddings:
        """Encode both prompts, as the pipeline that draws would do."""
        prompt_embeds, negative_prompt_embeds = self.pipeline.encode_prompt(
            request.prompt,
            negative_prompt=request.negative_prompt,
            device=self.pipeline.text_encoder.device,
        )
        return {
            "prompt_embeds": prompt_embeds.cpu(),
            "negative_prompt_embeds": negative_prompt_embeds.cpu(),
        }


class PromptEncoder:
    """Borrows text encoders for a moment, and remembers what they said last.

    Args:
        manager: lends the text encoders, and makes room for them.
        budget_bytes: of what is remembered; what was asked for last stays, however large.
    """

    def __init__(self, manager: PipelineManager, budget_bytes: int = BUDGET_BYTES) -> None:
        self._manager = manager
        self._budget_bytes = budget_bytes
        self._revisions: dict[str, str] = {}
        self._kept: OrderedDict[tuple[str, str, str], Embeddings] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Bytes of what is remembered."""
        return sum(one.nbytes for kept in self._kept.values() for one in kept.values())

    def encode(self, key: str, request: GenerationRequest, on_message: OnMessage) -> Embeddings:
        """Encode the prompts of a request by the text encoder of the model `key`.

        Raises:
            ModelUnavailable: the checkpoint cannot be had, or a file of it lacks.
            OutOfMemory: the device cannot hold it.
        """
        known = (self._revisions.get(key, ""), request.prompt, request.negative_prompt)
        if known not in self._kept:
            embeddings = self._ask(key, request, on_message)
            release_memory()  # only now nothing refers to the text encoder any more
            known = (self._revisions[key], request.prompt, request.negative_prompt)
            self._kept[known] = embeddings
        self._kept.move_to_end(known)
        while len(self._kept) > 1 and self.nbytes > self._budget_bytes:
            self._kept.popitem(last=False)
        return self._kept[known]

    def _ask(self, key: str, request: GenerationRequest, on_message: OnMessage) -> Embeddings:
        with self._manager.borrow_encoder(key, on_message) as encoder:
            self._revisions[key] = encoder.revision
            return encoder.encode(request)


def load_encoder(checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> TextEncoder:
    """Load the text encoder of a DeepFloyd IF checkpoint, and nothing else of it.

    Raises:
        ModelUnavailable: a file lacks.
    """
    from diffusers import IFPipeline

    spec, folder = checkpoint.spec, checkpoint.folder
    others = ("unet", "scheduler", "safety_checker", "feature_extractor", "watermarker")
    pipeline = IFPipeline(
        tokenizer=load_part(spec, folder / "tokenizer", "T5Tokenizer", dtype, None),
        text_encoder=_load_t5(checkpoint, device, dtype),
        requires_safety_checker=False,
        **dict.fromkeys(others),
    )
    nbytes = sum(weights.nbytes for weights in pipeline.text_encoder.parameters())
    return TextEncoder(pipeline, checkpoint.revision, nbytes)


def bytes_per_weight(device: str, dtype: torch.dtype) -> int:
    """1 on cuda where bitsandbytes is installed: the text encoder is held in 8 bits there."""
    return 1 if _is_quantized(device) else dtype.itemsize


def _load_t5(checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> torch.nn.Module:
    from transformers import T5EncoderModel

    part = checkpoint.folder / TEXT_ENCODER
    variant = variant_of(part, checkpoint.variant)
    check_files(checkpoint.spec, part, T5EncoderModel, variant)
    return T5EncoderModel.from_pretrained(
        part,
        dtype=dtype,
        variant=variant,
        use_safetensors=True,
        local_files_only=True,
        device_map={"": device},
        **_quantization(device),
    ).eval()


def _quantization(device: str) -> dict[str, Any]:
    if not _is_quantized(device):
        return {}
    from transformers import BitsAndBytesConfig

    return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}


def _is_quantized(device: str) -> bool:
    return device.startswith("cuda") and importlib.util.find_spec("bitsandbytes") is not None
