"""Tiny checkpoints of DeepFloyd IF's first two stages, of Karlo and of VQ-Diffusion."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDPMScheduler,
    DiffusionPipeline,
    IFPipeline,
    IFSuperResolutionPipeline,
    PriorTransformer,
    Transformer2DModel,
    UnCLIPImageVariationPipeline,
    UnCLIPPipeline,
    UnCLIPScheduler,
    UNet2DConditionModel,
    UNet2DModel,
    VQDiffusionPipeline,
    VQDiffusionScheduler,
    VQModel,
)
from diffusers.pipelines.deepfloyd_if.safety_checker import IFSafetyChecker
from diffusers.pipelines.deepfloyd_if.watermark import IFWatermarker
from diffusers.pipelines.deprecated.unclip import UnCLIPTextProjModel
from diffusers.pipelines.deprecated.vq_diffusion.pipeline_vq_diffusion import (
    LearnedClassifierFreeSamplingEmbeddings,
)
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tiny_families.parts import (
    HIDDEN,
    MAX_TOKENS,
    PROJECTED,
    projecting_text_encoder,
    text_encoder,
    tokenizer,
    vision_config,
)

IF_SIDES = {1: 64, 2: 128}
"""px that the first two stages draw; the second draws 256 in truth."""
VQ_CODES = 16
LEARNED = {"beta_schedule": "squaredcos_cap_v2", "variance_type": "learned_range"}

ON_THE_HUB = {
    "CLIPImageProcessorPil": ["transformers", "CLIPImageProcessor"],
    "IFSafetyChecker": ["deepfloyd_if", "IFSafetyChecker"],
    "IFWatermarker": ["deepfloyd_if", "IFWatermarker"],
    "LearnedClassifierFreeSamplingEmbeddings": [
        "vq_diffusion",
        "LearnedClassifierFreeSamplingEmbeddings",
    ],
    "UnCLIPTextProjModel": ["unclip", "UnCLIPTextProjModel"],
}
"""What the repositories on the Hub say of components that `save_pretrained` names otherwise."""


def save_tiny_if(folder: Path, *, stage: int, seed: int = 0) -> Path:
    """Save stage 1 or 2 of IF, with its text encoder, safety checker and watermark."""
    torch.manual_seed(seed)
    parts = {
        "tokenizer": t5_tokenizer(),
        "text_encoder": t5_encoder(),
        "unet": _if_unet(stage),
        "scheduler": DDPMScheduler(thresholding=True, sample_max_value=1.5, **LEARNED),
        "safety_checker": _if_safety_checker(),
        "feature_extractor": _feature_extractor(),
        "watermarker": _if_watermarker(),
    }
    if stage == 1:
        return _save(IFPipeline(**parts), folder)
    noising = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    return _save(IFSuperResolutionPipeline(image_noising_scheduler=noising, **parts), folder)


def save_tiny_karlo(folder: Path, *, seed: int = 0) -> Path:
    """Save a Karlo as its repository lies on the Hub, which `from_pretrained` refuses."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    prior_scheduler = UnCLIPScheduler(prediction_type="sample", clip_sample_range=5.0)
    parts = _karlo_parts(folder)
    return _save(UnCLIPPipeline(prior=_prior(), prior_scheduler=prior_scheduler, **parts), folder)


def save_tiny_karlo_variations(folder: Path, *, seed: int = 0) -> Path:
    """Save the Karlo that looks at a picture instead of reading."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    config = vision_config()
    config.projection_dim = HIDDEN
    pipeline = UnCLIPImageVariationPipeline(
        image_encoder=CLIPVisionModelWithProjection(config).eval(),
        feature_extractor=_feature_extractor(),
        **_karlo_parts(folder),
    )
    return _save(pipeline, folder)


def save_tiny_vq_diffusion(folder: Path, *, seed: int = 0) -> Path:
    """Save a VQ-Diffusion of 16 px as its repository lies on the Hub."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    embeddings = LearnedClassifierFreeSamplingEmbeddings(
        learnable=True, hidden_size=HIDDEN, length=MAX_TOKENS
    )
    torch.nn.init.normal_(embeddings.embeddings)
    pipeline = VQDiffusionPipeline(
        vqvae=_vqvae(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(folder),
        transformer=_vq_transformer(),
        scheduler=VQDiffusionScheduler(num_vec_classes=VQ_CODES + 1),
        learned_classifier_free_sampling_embeddings=embeddings,
    )
    return _save(pipeline, folder)


def t5_tokenizer() -> T5Tokenizer:
    """One token for every printable ASCII character."""
    characters = [f"▁{one}" for one in string.ascii_lowercase] + list(string.printable.strip())
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("▁", -4.0)]
    words = [(word, -5.0) for word in dict.fromkeys(characters)]
    return T5Tokenizer(vocab=[*special, *words], extra_ids=0, model_max_length=512)


def t5_encoder() -> T5EncoderModel:
    """T5 v1.1 of two layers."""
    config = T5Config(
        vocab_size=256,
        d_model=HIDDEN,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
    )
    return T5EncoderModel(config).eval()


def _save(pipeline: DiffusionPipeline, folder: Path) -> Path:
    """Save a pipeline with the `model_index.json` of its repository."""
    pipeline.save_pretrained(folder)
    index = folder / "model_index.json"
    parts: dict[str, Any] = json.loads(index.read_text())
    for name, value in parts.items():
        if isinstance(value, list):
            parts[name] = ON_THE_HUB.get(value[1], value)
    index.write_text(json.dumps(parts))
    return folder


def _if_unet(stage: int) -> UNet2DConditionModel:
    changes: Mapping[str, Any] = {
        "encoder_hid_dim": HIDDEN,
        "cross_attention_dim": 32,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 2,
        "cross_attention_norm": "group_norm",
        "act_fn": "gelu",
    }
    if stage == 2:
        changes = {**changes, "in_channels": 6, "class_embed_type": "timestep"}
    return _pixel_unet(IF_SIDES[stage], **changes).eval()


def _pixel_unet(sample_size: int, **changes: Any) -> UNet2DConditionModel:
    """The kind of U-Net that IF and Karlo draw pixels with; it predicts its variance too."""
    return UNet2DConditionModel(
        **{
            "sample_size": sample_size,
            "in_channels": 3,
            "out_channels": 6,
            "block_out_channels": (8, 8, 16),
            "layers_per_block": 1,
            "down_block_types": (*("ResnetDownsampleBlock2D",) * 2, "SimpleCrossAttnDownBlock2D"),
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
            "up_block_types": ("SimpleCrossAttnUpBlock2D", *("ResnetUpsampleBlock2D",) * 2),
            "cross_attention_dim": HIDDEN,
            "attention_head_dim": 8,
            "resnet_time_scale_shift": "scale_shift",
            "norm_num_groups": 4,
            **changes,
        }
    )


def _plain_unet() -> UNet2DModel:
    return UNet2DModel(
        sample_size=32,
        in_channels=6,
        out_channels=3,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "ResnetDownsampleBlock2D"),
        up_block_types=("ResnetUpsampleBlock2D", "ResnetUpsampleBlock2D"),
        norm_num_groups=4,
    ).eval()


def _if_safety_checker() -> IFSafetyChecker:
    """One that finds nothing: its two heads answer 0 whatever the picture is."""
    config = CLIPConfig(vision_config=vision_config().to_dict(), projection_dim=PROJECTED)
    checker = IFSafetyChecker(config).eval()
    for head in (checker.p_head, checker.w_head):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    return checker


def _if_watermarker() -> IFWatermarker:
    """An opaque red square, 62 px as the real mark."""
    watermarker = IFWatermarker()
    watermarker.watermark_image[..., 0] = 255
    watermarker.watermark_image[..., 3] = 255
    return watermarker


def _feature_extractor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def _karlo_parts(folder: Path) -> dict[str, Any]:
    """What both of Karlo's pipelines have."""
    text_proj = UnCLIPTextProjModel(
        clip_embeddings_dim=HIDDEN, time_embed_dim=32, cross_attention_dim=HIDDEN
    )
    return {
        "decoder": _pixel_unet(16, class_embed_type="identity").eval(),
        "text_encoder": projecting_text_encoder(projection_dim=HIDDEN),
        "tokenizer": tokenizer(folder),
        "text_proj": text_proj.eval(),
        "super_res_first": _plain_unet(),
        "super_res_last": _plain_unet(),
        "decoder_scheduler": UnCLIPScheduler(variance_type="learned_range"),
        "super_res_scheduler": UnCLIPScheduler(),
    }


def _prior() -> PriorTransformer:
    return PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=8,
        embedding_dim=HIDDEN,
        num_layers=1,
        num_embeddings=MAX_TOKENS,
        additional_embeddings=4,
    ).eval()


def _vqvae() -> VQModel:
    return VQModel(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        num_vq_embeddings=VQ_CODES,
        vq_embed_dim=4,
        norm_num_groups=4,
    ).eval()


def _vq_transformer() -> Transformer2DModel:
    return Transformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        attention_bias=True,
        cross_attention_dim=HIDDEN,
        sample_size=8,
        num_vector_embeds=VQ_CODES + 1,
        num_embeds_ada_norm=100,
        activation_fn="geglu-approximate",
        norm_type="ada_norm",
    ).eval()
