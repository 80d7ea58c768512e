"""Components of tiny checkpoints that several families share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
)

HIDDEN = 16
"""Numbers per token of a text encoder, and of what a U-Net reads."""
PROJECTED = 8
"""Numbers that a CLIP says of a whole text or picture."""
MAX_TOKENS = 77
END_TOKEN = 513

BETAS: Mapping[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
"""What the scheduler config of every Stable Diffusion has."""


def tokenizer(folder: Path, pad_token: str = "<|endoftext|>") -> CLIPTokenizer:
    """One token for every byte, and one for every byte that ends a word; no merges.

    `folder` exists; the two files written into it are removed again.
    """
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [256 + index for index in range(256 - len(kept))]
    characters = [chr(code) for code in [*kept, *moved]]
    words = [
        *characters,
        *(f"{character}</w>" for character in characters),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({word: index for index, word in enumerate(words)}))
    merges.write_text("#version: 0.2\n")
    made = CLIPTokenizer(
        vocab=str(vocabulary),
        merges=str(merges),
        model_max_length=MAX_TOKENS,
        pad_token=pad_token,
    )
    vocabulary.unlink()
    merges.unlink()
    return made


def text_encoder(**changes: Any) -> CLIPTextModel:
    """A text encoder of two layers; `changes` are values of its config."""
    return CLIPTextModel(_text_config(changes)).eval()


def projecting_text_encoder(**changes: Any) -> CLIPTextModelWithProjection:
    """The same with a projection of the whole text, as SDXL's second and Kandinsky's."""
    return CLIPTextModelWithProjection(_text_config(changes)).eval()


def _text_config(changes: Mapping[str, Any]) -> CLIPTextConfig:
    config = {
        "vocab_size": END_TOKEN + 1,
        "hidden_size": HIDDEN,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": MAX_TOKENS,
        "hidden_act": "gelu",
        "projection_dim": PROJECTED,
        "bos_token_id": 512,
        "eos_token_id": END_TOKEN,
        "pad_token_id": END_TOKEN,
    }
    return CLIPTextConfig(**{**config, **changes})


def vision_config() -> CLIPVisionConfig:
    """A CLIP that looks at pictures of 32 px."""
    return CLIPVisionConfig(
        hidden_size=HIDDEN,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=PROJECTED,
    )


def unet(**changes: Any) -> UNet2DConditionModel:
    """A U-Net of two scales; `changes` are values of its config."""
    config = {
        "sample_size": 16,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": HIDDEN,
        "attention_head_dim": (2, 4),
        "use_linear_projection": True,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**{**config, **changes}).eval()


def vae(blocks: int = 4, **changes: Any) -> AutoencoderKL:
    """An autoencoder; 2, 3, 4 `blocks` give factors of 2, 4, 8. `changes` are of its config."""
    config = {
        "block_out_channels": (8, 16, 16, 16)[:blocks],
        "down_block_types": ("DownEncoderBlock2D",) * blocks,
        "up_block_types": ("UpDecoderBlock2D",) * blocks,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": 64,
    }
    return AutoencoderKL(**{**config, **changes}).eval()
