"""A CLIP checkpoint from a local folder, as a ranker of descriptions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps

from lab.metrics.errors import MissingPackage
from lab.metrics.observers import BATCH, stack
from lab.store import CorruptCheckpoint

if TYPE_CHECKING:
    from transformers import CLIPModel, PreTrainedTokenizerBase

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures that OpenAI's checkpoints saw; a checkpoint's own preprocessor wins."""

TOKENIZER_FILES = ("tokenizer.json", "vocab.json")


@dataclass(frozen=True, slots=True)
class Clip:
    """Embeds pictures and texts with CLIP."""

    model: CLIPModel
    tokenizer: PreTrainedTokenizerBase
    mean: torch.Tensor
    deviation: torch.Tensor
    """(1, 3, 1, 1), of pixels in [0, 1]."""
    name: str = "CLIP"

    @torch.inference_mode()
    def embed_pictures(self, pictures: Iterable[Image.Image]) -> np.ndarray:
        """Return (N, E), each row of length 1; a picture is cut to its middle square."""
        side, rows, waiting = self.model.config.vision_config.image_size, [], iter(pictures)
        while batch := list(islice(waiting, BATCH)):
            square = [ImageOps.fit(one, (side, side), Image.Resampling.BICUBIC) for one in batch]
            pixels = (stack(square).float() / 255 - self.mean) / self.deviation
            pooled = self.model.vision_model(pixel_values=pixels).pooler_output
            rows.append(_unit(self.model.visual_projection(pooled)))
        return np.concatenate(rows)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return (T, E), each row of length 1; long texts lose their end."""
        length, rows = self.model.config.text_config.max_position_embeddings, []
        for start in range(0, len(texts), BATCH):
            tokens = self.tokenizer(
                list(texts[start : start + BATCH]),
                padding=True,
                truncation=True,
                max_length=length,
                return_tensors="pt",
            )
            pooled = self.model.text_model(
                input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
            ).pooler_output
            rows.append(_unit(self.model.text_projection(pooled)))
        return np.concatenate(rows)


def _unit(embeddings: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(embeddings.float(), dim=-1).numpy()


def load_clip(folder: Path) -> Clip:
    """Load a CLIP checkpoint in transformers' folder format; nothing is downloaded.

    Raises:
        MissingPackage: if there is no such folder.
        CorruptCheckpoint: if it holds no whole CLIP checkpoint.
    """
    from safetensors import SafetensorError
    from transformers import CLIPModel, CLIPTokenizer

    if not folder.is_dir():
        raise MissingPackage(f"There is no CLIP checkpoint folder `{folder}`.")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        # Without them transformers makes a tokenizer of no words, and says nothing.
        raise CorruptCheckpoint(
            f"`{folder}` holds no whole CLIP checkpoint: no {' or '.join(TOKENIZER_FILES)}."
        )
    try:
        model, told = CLIPModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        mean, deviation = _preprocessing(folder)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise CorruptCheckpoint(f"`{folder}` holds no whole CLIP checkpoint: {error}") from error
    if told["missing_keys"]:
        raise CorruptCheckpoint(
            f"`{folder}` lacks {len(told['missing_keys'])} of CLIP's weights, "
            f"`{sorted(told['missing_keys'])[0]}` among them."
        )
    return Clip(model.eval(), tokenizer, mean, deviation)


def _preprocessing(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    path = folder / "preprocessor_config.json"
    told = json.loads(path.read_text("utf-8")) if path.exists() else {}
    values = told.get("image_mean", MEAN), told.get("image_std", DEVIATION)
    return tuple(torch.tensor(value).view(1, 3, 1, 1) for value in values)
