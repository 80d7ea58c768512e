"""Tiny Stable Diffusion checkpoints that start from a picture: inpainting, depth, x4 upscaling."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    DDPMScheduler,
    StableDiffusionDepth2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionUpscalePipeline,
)
from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

from tiny_families import parts
from tiny_families.unets import ddim, pndm, sd2_parts


def save_sd2_inpainting(folder: Path) -> Path:
    """Its U-Net reads noise, mask and the masked picture: 9 channels."""
    pipeline = StableDiffusionInpaintPipeline(
        **sd2_parts(folder, unet={"in_channels": 9}),
        scheduler=pndm(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_sd2_depth(folder: Path) -> Path:
    """Its U-Net reads noise and depth: 5 channels; a DPT estimates the depth."""
    size = {"height": 32, "width": 32}
    pipeline = StableDiffusionDepth2ImgPipeline(
        **sd2_parts(folder, unet={"in_channels": 5, "out_channels": 4}),
        scheduler=pndm(),
        depth_estimator=_depth_estimator(),
        feature_extractor=DPTImageProcessor(size=size),
    )
    pipeline.save_pretrained(folder)
    return folder


def save_x4_upscaler(folder: Path) -> Path:
    """Its U-Net reads noise and the small picture, 7 channels, and how noisy that was made."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    low_res_scheduler = DDPMScheduler(
        beta_start=0.0001, beta_end=0.02, beta_schedule="scaled_linear", clip_sample=True
    )
    pipeline = StableDiffusionUpscalePipeline(
        vae=parts.vae(3, scaling_factor=0.08333),
        text_encoder=parts.text_encoder(),
        tokenizer=parts.tokenizer(folder, pad_token="!"),
        unet=parts.unet(
            in_channels=7, out_channels=4, num_class_embeds=400, only_cross_attention=(True, False)
        ),
        low_res_scheduler=low_res_scheduler,
        scheduler=ddim("v_prediction"),
        max_noise_level=350,
    )
    pipeline.save_pretrained(folder)
    return folder


def _depth_estimator() -> DPTForDepthEstimation:
    config = DPTConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        backbone_out_indices=(0, 1, 2, 3),
        neck_hidden_sizes=(4, 8, 8, 8),
        fusion_hidden_size=8,
        image_size=32,
        patch_size=8,
        use_auxiliary_head=False,
        initializer_range=0.3,
    )
    return DPTForDepthEstimation(config).eval()
