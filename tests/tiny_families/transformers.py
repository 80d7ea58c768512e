"""Tiny checkpoints of the families that draw with a transformer.

The classes, the scheduler configs and the shapes of the latents are those of the repositories on
the Hub.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)

from tiny_families import parts, words
from tiny_families.parts import PROJECTED
from tiny_families.words import HIDDEN

LATENT_CHANNELS = 16
HEADS: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 8}
ROPE = (2, 2, 4)
"""How a head's numbers are divided between the axes of the positions."""


def save_pixart(folder: Path) -> Path:
    """PixArt-Sigma; it draws at sizes it was trained for alone, here around 256 px.

    Its tokenizer is a `spiece.model` alone, as in its repository.
    """
    torch.manual_seed(0)
    pipeline = PixArtSigmaPipeline(
        tokenizer=words.t5_tokenizer(folder / "tokenizer"),
        text_encoder=words.t5_encoder(),
        vae=parts.vae(scaling_factor=0.13025),
        transformer=_lively(
            PixArtTransformer2DModel(
                **HEADS,
                num_layers=2,
                cross_attention_dim=HIDDEN,
                caption_channels=HIDDEN,
                sample_size=32,
            )
        ),
        scheduler=DPMSolverMultistepScheduler(
            beta_start=0.0001, beta_end=0.02, beta_schedule="linear"
        ),
    )
    pipeline.save_pretrained(folder)
    (folder / "tokenizer" / "tokenizer.json").unlink()
    return folder


def save_sd3(folder: Path) -> Path:
    """Stable Diffusion 3.5: two CLIPs and a T5."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = StableDiffusion3Pipeline(
        tokenizer=parts.tokenizer(folder),
        tokenizer_2=parts.tokenizer(folder, pad_token="!"),
        tokenizer_3=words.t5_tokenizer(folder / "tokenizer_3"),
        text_encoder=parts.projecting_text_encoder(hidden_size=8),
        text_encoder_2=parts.projecting_text_encoder(hidden_size=8),
        text_encoder_3=words.t5_encoder(),
        vae=_shifted_vae(scaling_factor=1.5305, shift_factor=0.0609),
        transformer=_lively(
            SD3Transformer2DModel(
                **HEADS,
                sample_size=32,
                num_layers=2,
                joint_attention_dim=HIDDEN,
                caption_projection_dim=16,
                pooled_projection_dim=2 * PROJECTED,
                pos_embed_max_size=32,
                qk_norm="rms_norm",
                dual_attention_layers=(0,),
            )
        ),
        scheduler=_flow(shift=3.0),
    )
    pipeline.save_pretrained(folder)
    return folder


def save_flux_schnell(folder: Path) -> Path:
    """FLUX.1 schnell: no guidance, at most 256 tokens."""
    return _save_flux(folder, _flow(shift=1.0), guidance_embeds=False)


def save_flux_dev(folder: Path) -> Path:
    """FLUX.1 dev: its transformer reads the guidance."""
    return _save_flux(folder, _flow(shift=3.0, **SHIFTED), guidance_embeds=True)


SHIFTED: dict[str, Any] = {
    "use_dynamic_shifting": True,
    "base_image_seq_len": 256,
    "base_shift": 0.5,
    "max_image_seq_len": 4096,
    "max_shift": 1.15,
}
"""More steps at high noise for larger pictures."""


def _save_flux(
    folder: Path, scheduler: FlowMatchEulerDiscreteScheduler, *, guidance_embeds: bool
) -> Path:
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = FluxPipeline(
        tokenizer=parts.tokenizer(folder),
        tokenizer_2=words.t5_tokenizer(folder / "tokenizer_2"),
        text_encoder=parts.text_encoder(),
        text_encoder_2=words.t5_encoder(),
        vae=_shifted_vae(scaling_factor=0.3611, shift_factor=0.1159),
        transformer=_lively(
            FluxTransformer2DModel(
                **HEADS,
                in_channels=4 * LATENT_CHANNELS,
                num_layers=1,
                num_single_layers=1,
                joint_attention_dim=HIDDEN,
                pooled_projection_dim=parts.HIDDEN,
                guidance_embeds=guidance_embeds,
                axes_dims_rope=ROPE,
            )
        ),
        scheduler=scheduler,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_flux2_klein(folder: Path) -> Path:
    """FLUX.2 klein, distilled: a Qwen3 reads the text, a batch norm scales the latents."""
    torch.manual_seed(0)
    pipeline = Flux2KleinPipeline(
        tokenizer=words.qwen_tokenizer(),
        text_encoder=words.qwen3_for_texts(),
        vae=flux2_vae(),
        transformer=_lively(
            Flux2Transformer2DModel(
                **HEADS,
                in_channels=4 * 8,
                num_layers=1,
                num_single_layers=1,
                joint_attention_dim=3 * HIDDEN,
                timestep_guidance_channels=16,
                axes_dims_rope=(2, 2, 2, 2),
                guidance_embeds=False,
            )
        ),
        scheduler=_flow(shift=3.0, **SHIFTED),
        is_distilled=True,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_sana_sprint(folder: Path) -> Path:
    """Sana Sprint: consistency steps, latents of 32 x 32 px; it draws at sizes around 1024 px."""
    torch.manual_seed(0)
    pipeline = SanaSprintPipeline(
        tokenizer=words.gemma_tokenizer(),
        text_encoder=words.gemma2(),
        vae=dc_vae(),
        transformer=_lively(
            SanaTransformer2DModel(
                **HEADS,
                num_layers=2,
                num_cross_attention_heads=2,
                cross_attention_head_dim=8,
                cross_attention_dim=16,
                caption_channels=HIDDEN,
                sample_size=32,
                guidance_embeds=True,
                qk_norm="rms_norm_across_heads",
                timestep_scale=1000.0,
            )
        ),
        scheduler=SCMScheduler(),
    )
    pipeline.save_pretrained(folder)
    return folder


def save_z_image(folder: Path) -> Path:
    """Z-Image-Turbo: a Qwen3 reads the text."""
    torch.manual_seed(0)
    pipeline = ZImagePipeline(
        tokenizer=words.qwen_tokenizer(),
        text_encoder=words.qwen3(),
        vae=_shifted_vae(scaling_factor=0.3611, shift_factor=0.1159),
        transformer=_lively(
            ZImageTransformer2DModel(
                dim=16,
                n_layers=1,
                n_refiner_layers=1,
                n_heads=2,
                n_kv_heads=2,
                cap_feat_dim=HIDDEN,
                axes_dims=list(ROPE),
            )
        ),
        scheduler=_flow(shift=3.0),
    )
    pipeline.save_pretrained(folder)
    return folder


def save_qwen_image(folder: Path) -> Path:
    """Qwen-Image: a Qwen2.5-VL reads the text, the VAE is one of films."""
    torch.manual_seed(0)
    pipeline = QwenImagePipeline(
        tokenizer=words.qwen_tokenizer(),
        text_encoder=words.qwen_that_sees(),
        vae=qwen_vae(),
        transformer=_lively(
            QwenImageTransformer2DModel(
                **HEADS, num_layers=2, joint_attention_dim=HIDDEN, axes_dims_rope=ROPE
            )
        ),
        scheduler=_flow(shift=1.0, **SHIFTED | {"max_shift": 0.9, "shift_terminal": 0.02}),
    )
    pipeline.save_pretrained(folder)
    return folder


def flux2_vae() -> AutoencoderKLFlux2:
    """FLUX.2's autoencoder of factor 8, with a batch norm that has seen latents."""
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 16, 16, 16),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=4,
        sample_size=64,
    )
    vae.bn.running_mean.uniform_(-1, 1)
    vae.bn.running_var.uniform_(0.3, 3)
    return vae.eval()


def dc_vae() -> AutoencoderDC:
    """Sana's autoencoder of factor 32."""
    return AutoencoderDC(
        attention_head_dim=4,
        encoder_block_out_channels=(4, 4, 4, 4, 8, 32),
        decoder_block_out_channels=(4, 4, 4, 4, 8, 32),
        encoder_block_types=("ResBlock",) * 5 + ("EfficientViTBlock",),
        decoder_block_types=("ResBlock",) * 5 + ("EfficientViTBlock",),
        encoder_layers_per_block=(1,) * 6,
        decoder_layers_per_block=(1,) * 6,
        encoder_qkv_multiscales=((),) * 5 + ((5,),),
        decoder_qkv_multiscales=((),) * 5 + ((5,),),
        downsample_block_type="Conv",
        upsample_block_type="interpolate",
        scaling_factor=0.41407,
    ).eval()


def qwen_vae() -> AutoencoderKLQwenImage:
    """Qwen-Image's autoencoder of factor 8: each channel has a mean and a spread of its own."""
    return AutoencoderKLQwenImage(base_dim=4, dim_mult=[1, 2, 2, 2], num_res_blocks=1).eval()


def _shifted_vae(**changes: float) -> AutoencoderKL:
    return parts.vae(latent_channels=LATENT_CHANNELS, use_quant_conv=False, **changes)


def _flow(**config: Any) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(**config)


def _lively(transformer: torch.nn.Module) -> torch.nn.Module:
    """Let each layer pass on what it reads: as built, some are zero, and texts go unheard."""
    for weight in transformer.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=(2 / weight[0].numel()) ** 0.5)
    return transformer.eval()


SAVED_BY = {
    "pixart-sigma": save_pixart,
    "sd35-medium": save_sd3,
    "sd35-large-turbo": save_sd3,
    "flux1-schnell": save_flux_schnell,
    "flux1-dev": save_flux_dev,
    "flux2-klein": save_flux2_klein,
    "sana-sprint": save_sana_sprint,
    "z-image": save_z_image,
    "z-image-turbo": save_z_image,
    "qwen-image": save_qwen_image,
}
"""What saves the tiny checkpoint of a row of assets/models.toml."""

ONE_OF_EACH = (
    "pixart-sigma",
    "sd35-medium",
    "flux1-schnell",
    "flux2-klein",
    "sana-sprint",
    "z-image",
    "qwen-image",
)
"""A row for each pipeline class, for what does not depend on more of the row."""
