"""The four parts of the built-in model and their sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

TEXT_WIDTH = 256
LATENT_SIDE = 16
LATENT_CHANNELS = 8
"""Four lost eyes and windows (26 dB); the decoder gets them back from eight."""

SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.02,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}
"""Stable Diffusion's form of noise schedule, so that every scheduler of diffusers fits.

It ends at 0.02 and not 0.012: at 16 x 16 the mean colour is still seen through the noise of 0.012,
and a sampler, which starts from pure noise, would draw no dark ground."""


def build_autoencoder() -> AutoencoderKL:
    """Build the autoencoder: (B, 3, 64, 64) in [-1, 1] <-> (B, 8, 16, 16)."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(32, 64, 128),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=64,
        scaling_factor=1.0,
    )


def build_unet() -> UNet2DConditionModel:
    """Build the denoiser: thin at 16 x 16, where points are many, wide at 4 x 4."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(48, 96, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # in this class the number of heads, whatever its name says
        norm_num_groups=16,
        # The pooled text goes with the timestep into every block: colours are learnt far sooner.
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Build the text encoder for a tokenizer: (B, 32) ids -> (B, 32, 256)."""
    from transformers import CLIPTextConfig, CLIPTextModel

    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    # CLIP's own start (0.02) suits its width and 400 million pictures: here the words drowned in
    # what the first layer adds to all of them alike, and colours were not learnt.
    for name, weight in encoder.named_parameters():
        if "embedding" in name:
            torch.nn.init.normal_(weight, std=0.3 if "token" in name else 0.1)
    return encoder


def build_scheduler() -> EulerDiscreteScheduler:
    """Build the scheduler of the exported pipeline."""
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(**SCHEDULE, steps_offset=1, timestep_spacing="trailing")
