"""A tiny Kandinsky 2.2: a decoder whose card names the repository of its prior."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    DDPMScheduler,
    KandinskyV22Pipeline,
    KandinskyV22PriorPipeline,
    PriorTransformer,
    UnCLIPScheduler,
    VQModel,
)
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from tiny_families import parts
from tiny_families.parts import PROJECTED


def save_kandinsky(folder: Path) -> Path:
    """The decoder, with its prior in a folder of it."""
    save_kandinsky_prior(save_kandinsky_decoder(folder) / "prior")
    return folder


def save_kandinsky_decoder(folder: Path) -> Path:
    """U-Net and MoVQ; the card beside them names the prior's repository, as on the Hub."""
    torch.manual_seed(0)
    pipeline = KandinskyV22Pipeline(unet=_unet(), scheduler=_scheduler(), movq=_movq())
    pipeline.save_pretrained(folder)
    (folder / "README.md").write_text(
        "---\nlicense: apache-2.0\nprior:\n- kandinsky-community/kandinsky-2-2-prior\n---\n"
    )
    return folder


def save_kandinsky_prior(folder: Path) -> Path:
    """What turns a text into what a CLIP would say of its picture."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    prior = PriorTransformer(
        num_attention_heads=2, attention_head_dim=8, num_layers=1, embedding_dim=PROJECTED
    )
    prior.clip_std.data.fill_(1.0)
    pipeline = KandinskyV22PriorPipeline(
        prior=prior.eval(),
        image_encoder=CLIPVisionModelWithProjection(parts.vision_config()).eval(),
        text_encoder=parts.projecting_text_encoder(hidden_size=PROJECTED),
        tokenizer=parts.tokenizer(folder),
        scheduler=UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
        ),
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
    )
    pipeline.save_pretrained(folder)
    return folder


def _unet() -> object:
    """Predicts noise and variance, 8 channels, from what a CLIP says of a picture."""
    return parts.unet(
        in_channels=4,
        out_channels=8,
        block_out_channels=(8, 16),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        addition_embed_type="image",
        encoder_hid_dim=PROJECTED,
        encoder_hid_dim_type="image_proj",
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
        use_linear_projection=False,
    )


def _scheduler() -> DDPMScheduler:
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="linear",
        clip_sample=False,
        thresholding=True,
        sample_max_value=2.0,
        variance_type="learned_range",
        steps_offset=1,
    )


def _movq() -> VQModel:
    """Eight times smaller, with norms that look at the latents, by 32 channels at least."""
    return VQModel(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
        up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
    ).eval()
