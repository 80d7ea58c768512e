"""Builds a small random CLIP in transformers' folder format."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel

from lab.tokens import train_tokenizer


def save_tiny_clip(folder: Path, words: list[str]) -> Path:
    """Save a CLIP of 32 px pictures, with a tokenizer learnt from the words."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(words, folder)
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text = layers | {
        "num_attention_heads": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 16,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = layers | {"num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    CLIPModel(config).save_pretrained(folder)
    return folder
