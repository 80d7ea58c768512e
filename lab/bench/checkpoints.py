"""Checkpoints with the shapes of Stable Diffusion 2 and XL and with random weights, on disk.

The shapes are those of the configs in stabilityai/stable-diffusion-2 and
stabilityai/stable-diffusion-xl-base-1.0; speed does not depend on what the weights are, as long as
they are not all zero. `toy` keeps the topology and makes every layer narrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from studio.settings import ROOT

TOKENIZER = ROOT / "assets/builtin/tokenizer"
"""Splits texts otherwise than OpenAI's, which changes no shape."""
MAX_TOKENS = 77


SD2_UNET = {
    "sample_size": 96,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
SDXL_UNET = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
NARROW = {"layers_per_block": 1, "norm_num_groups": 4}
TOY_SD2 = {
    **NARROW,
    "block_out_channels": (8, 8, 16, 16),
    "attention_head_dim": (1, 1, 2, 2),
    "cross_attention_dim": 32,
}
TOY_SDXL = {
    **NARROW,
    "block_out_channels": (8, 8, 16),
    "attention_head_dim": (1, 1, 2),
    "transformer_layers_per_block": (1, 1, 2),
    "cross_attention_dim": 64,
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 32,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 768,
}
TOY_VAE = {**NARROW, "block_out_channels": (8, 8, 16, 16)}
# Width, layers, heads and activation of the text encoders; the inner width is four times theirs.
OPENCLIP_H, CLIP_L, OPENCLIP_G = (
    (1024, 23, 16, "gelu"),
    (768, 12, 12, "quick_gelu"),
    (1280, 32, 20, "gelu"),
)
TOY_TEXT = (32, 2, 2, "gelu")
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
BETAS |= {"steps_offset": 1}

Made = tuple[torch.device, torch.dtype]
"""Where the weights are made, and as what numbers they are kept."""


def save_sd2(folder: Path, made: Made, *, toy: bool, seed: int = 0) -> Path:
    """Stable Diffusion 2 at 768 px: v-prediction, Euler as in the script of its card."""
    torch.manual_seed(seed)
    parts = {
        "unet": _build(UNet2DConditionModel, made, SD2_UNET, TOY_SD2 if toy else {}),
        "vae": _build(AutoencoderKL, made, VAE, TOY_VAE if toy else {}),
        "text_encoder": _text(CLIPTextModel, made, TOY_TEXT if toy else OPENCLIP_H),
        "tokenizer": _tokenizer(),
        "scheduler": EulerDiscreteScheduler(**BETAS, prediction_type="v_prediction"),
    }
    checker = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    StableDiffusionPipeline(**parts, **checker).save_pretrained(folder)
    return folder


def save_sdxl(folder: Path, made: Made, *, toy: bool, seed: int = 0) -> Path:
    """Stable Diffusion XL, the base model."""
    torch.manual_seed(seed)
    second = CLIPTextModelWithProjection
    parts = {
        "unet": _build(UNet2DConditionModel, made, SDXL_UNET, TOY_SDXL if toy else {}),
        "vae": _build(AutoencoderKL, made, {**VAE, "force_upcast": False}, TOY_VAE if toy else {}),
        "text_encoder": _text(CLIPTextModel, made, TOY_TEXT if toy else CLIP_L),
        "text_encoder_2": _text(second, made, TOY_TEXT if toy else OPENCLIP_G),
        "tokenizer": _tokenizer(),
        "tokenizer_2": _tokenizer(),
        "scheduler": EulerDiscreteScheduler(**BETAS),
    }
    StableDiffusionXLPipeline(**parts, add_watermarker=False).save_pretrained(folder)
    return folder


def denoiser_on_meta(pipeline_class: str, *, toy: bool) -> UNet2DConditionModel:
    """The same U-Net without memory: what it computes can be counted, not computed."""
    config = SDXL_UNET if "XL" in pipeline_class else SD2_UNET
    narrow = TOY_SDXL if "XL" in pipeline_class else TOY_SD2
    return _build(
        UNet2DConditionModel,
        (torch.device("meta"), torch.float32),
        config,
        narrow if toy else {},
    )


def decoder_on_meta(*, toy: bool) -> AutoencoderKL:
    """The same of the autoencoder."""
    made = (torch.device("meta"), torch.float32)
    return _build(AutoencoderKL, made, VAE, TOY_VAE if toy else {})


def _build(kind: Any, made: Made, *configs: Mapping[str, Any]) -> Any:
    """Build a module; later configs win."""
    device, dtype = made
    with device:
        module: nn.Module = kind(**{name: v for config in configs for name, v in config.items()})
    return _kept_as(module, dtype)


def _text(kind: Any, made: Made, shape: tuple[int, int, int, str]) -> Any:
    width, layers, heads, activation = shape
    config = CLIPTextConfig(
        vocab_size=49408,
        max_position_embeddings=MAX_TOKENS,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_act=activation,
        projection_dim=width,
        eos_token_id=_tokenizer().eos_token_id,
    )
    device, dtype = made
    with device:
        module: nn.Module = kind(config)
    return _kept_as(module, dtype)


def _kept_as(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    return (module if dtype == torch.float32 else module.to(dtype)).eval()


def _tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(TOKENIZER, model_max_length=MAX_TOKENS)
