"""Builds small random-weight checkpoints with the classes and the config shape of SD-2 on disk."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

HIDDEN = 16
MAX_TOKENS = 77


def save_tiny_checkpoint(
    folder: Path, *, seed: int = 0, vae_blocks: int = 2, latent_side: int = 16
) -> Path:
    """Save a checkpoint that `StableDiffusionPipeline.from_pretrained(folder)` loads.

    Args:
        folder: made if it is missing.
        seed: other seeds give other weights.
        vae_blocks: 2, 3, 4 give VAE factors of 2, 4, 8 (SD-2 has 8).
        latent_side: the UNet's `sample_size`.
    """
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = StableDiffusionPipeline(
        vae=_vae(vae_blocks),
        text_encoder=_text_encoder().eval(),
        tokenizer=_tokenizer(folder),
        unet=_unet(latent_side).eval(),
        scheduler=_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def _scheduler() -> DDIMScheduler:
    """The scheduler folder of the 768-px SD-2 checkpoint."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )


def _tokenizer(folder: Path) -> CLIPTokenizer:
    """One token for every byte, and one for every byte that ends a word; no merges."""
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
    tokenizer = CLIPTokenizer(
        vocab=str(vocabulary), merges=str(merges), model_max_length=MAX_TOKENS
    )
    vocabulary.unlink()
    merges.unlink()
    return tokenizer


def _text_encoder() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=514,
            hidden_size=HIDDEN,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=MAX_TOKENS,
            hidden_act="gelu",
            projection_dim=8,
            bos_token_id=512,
            eos_token_id=513,
            pad_token_id=513,
        )
    )


def _unet(latent_side: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=latent_side,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=HIDDEN,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        norm_num_groups=4,
    )


def _vae(blocks: int) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16, 16, 16)[:blocks],
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
    ).eval()
