"""Tiny Stable Diffusion checkpoints that draw from text: 1.x, 2.x, Turbo, LCM, SDXL.

The scheduler configs and the shapes of the U-Nets are those of the repositories on the Hub.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from peft import LoraConfig, get_peft_model_state_dict
from transformers import CLIPConfig, CLIPImageProcessor, CLIPTextConfig

from tiny_families import parts
from tiny_families.parts import HIDDEN, PROJECTED

TIME_IDS = 8
"""Numbers that each of SDXL's sizes, crops and scores becomes."""


def save_sd1(folder: Path, *, flags_everything: bool = False) -> Path:
    """Stable Diffusion 1.x: epsilon, PNDM, with the safety checker that its repositories bundle.

    The checker finds nothing; with `flags_everything` it holds every picture back.
    """
    pipeline = StableDiffusionPipeline(
        **_sd_parts(
            folder, text={"hidden_act": "quick_gelu"}, unet={"use_linear_projection": False}
        ),
        scheduler=pndm(),
        safety_checker=_safety_checker(-2.0 if flags_everything else 2.0),
        feature_extractor=_feature_extractor(),
    )
    return _save(pipeline, folder)


def save_sd2(folder: Path) -> Path:
    """Stable Diffusion 2 at 768 px: v-prediction, DDIM."""
    return _save_sd2(folder, ddim("v_prediction"))


def save_sd2_base(folder: Path) -> Path:
    """Stable Diffusion 2 base at 512 px: epsilon."""
    return _save_sd2(folder, pndm())


def save_sd_turbo(folder: Path) -> Path:
    """SD-Turbo: Euler with trailing steps, 1 to 4 of them."""
    return _save_sd2(folder, _euler(timestep_spacing="trailing"))


def save_lcm(folder: Path) -> Path:
    """A latent consistency model: its U-Net reads the guidance."""
    scheduler = LCMScheduler(**parts.BETAS, clip_sample=False, set_alpha_to_one=True)
    pipeline = LatentConsistencyModelPipeline(
        **_sd_parts(folder, unet={"time_cond_proj_dim": 16, "use_linear_projection": False}),
        scheduler=scheduler,
        safety_checker=_safety_checker(2.0),
        feature_extractor=_feature_extractor(),
    )
    return _save(pipeline, folder)


def save_sdxl(folder: Path) -> Path:
    """SDXL base: two text encoders, sizes and crops among the conditions."""
    return _save(StableDiffusionXLPipeline(**_sdxl_parts(folder, encoders=2, time_ids=6)), folder)


def save_sdxl_turbo(folder: Path) -> Path:
    """SDXL-Turbo: SDXL base with the ancestral Euler and trailing steps."""
    parts_of = _sdxl_parts(folder, encoders=2, time_ids=6)
    scheduler = EulerAncestralDiscreteScheduler.from_config(
        parts_of["scheduler"].config, timestep_spacing="trailing"
    )
    return _save(StableDiffusionXLPipeline(**{**parts_of, "scheduler": scheduler}), folder)


def save_sdxl_refiner(folder: Path) -> Path:
    """SDXL refiner: draws over a picture, second text encoder alone, an aesthetic score."""
    pipeline = StableDiffusionXLImg2ImgPipeline(
        **_sdxl_parts(folder, encoders=1, time_ids=5),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
    )
    return _save(pipeline, folder)


def save_with_lora(folder: Path, save: Callable[[Path], Path], name: str) -> Path:
    """A checkpoint, and beside it a LoRA of its U-Net, in diffusers' format under that name."""
    save(folder)
    torch.manual_seed(0)
    pipeline = DiffusionPipeline.from_pretrained(folder)
    config = LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights="gaussian")
    pipeline.unet.add_adapter(config)
    layers = {
        key: torch.randn_like(tensor)
        for key, tensor in get_peft_model_state_dict(pipeline.unet).items()
    }
    pipeline.save_lora_weights(folder, unet_lora_layers=layers, weight_name=name)
    return folder


def pndm() -> PNDMScheduler:
    """The scheduler of 1.x and of 2 base."""
    own = {"skip_prk_steps": True, "set_alpha_to_one": False, "clip_sample": False}
    return PNDMScheduler.from_config({**parts.BETAS, **own})


def ddim(prediction_type: str) -> DDIMScheduler:
    """The scheduler of 2.x."""
    return DDIMScheduler(
        **parts.BETAS, clip_sample=False, set_alpha_to_one=False, prediction_type=prediction_type
    )


def sd2_parts(folder: Path, unet: dict[str, Any] | None = None) -> dict[str, Any]:
    """Components of Stable Diffusion 2 without the scheduler; its tokenizer pads with "!"."""
    made = _sd_parts(folder, unet=unet)
    return {**made, "tokenizer": parts.tokenizer(folder, pad_token="!")}


def _save_sd2(folder: Path, scheduler: SchedulerMixin) -> Path:
    pipeline = StableDiffusionPipeline(
        **sd2_parts(folder),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=_feature_extractor(),
        requires_safety_checker=False,
    )
    return _save(pipeline, folder)


def _sd_parts(
    folder: Path, text: dict[str, Any] | None = None, unet: dict[str, Any] | None = None
) -> dict[str, Any]:
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "vae": parts.vae(),
        "text_encoder": parts.text_encoder(**(text or {})),
        "tokenizer": parts.tokenizer(folder),
        "unet": parts.unet(**(unet or {})),
    }


def _sdxl_parts(folder: Path, *, encoders: int, time_ids: int) -> dict[str, Any]:
    """Components of SDXL with one or two text encoders and so many sizes, crops and scores."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    unet = parts.unet(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        cross_attention_dim=HIDDEN * encoders,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_IDS,
        projection_class_embeddings_input_dim=TIME_IDS * time_ids + PROJECTED,
    )
    has_both = encoders == 2
    return {
        "vae": parts.vae(scaling_factor=0.13025, force_upcast=True),
        "text_encoder": parts.text_encoder() if has_both else None,
        "text_encoder_2": parts.projecting_text_encoder(),
        "tokenizer": parts.tokenizer(folder) if has_both else None,
        "tokenizer_2": parts.tokenizer(folder, pad_token="!"),
        "unet": unet,
        "scheduler": _euler(timestep_spacing="leading"),
    }


def _euler(timestep_spacing: str) -> EulerDiscreteScheduler:
    own = {"timestep_spacing": timestep_spacing, "clip_sample": False, "set_alpha_to_one": False}
    return EulerDiscreteScheduler.from_config({**parts.BETAS, **own})


def _safety_checker(threshold: float) -> StableDiffusionSafetyChecker:
    """A checker that flags pictures whose likeness (-1 to 1) to a concept is above a threshold."""
    text, vision = CLIPTextConfig(projection_dim=PROJECTED), parts.vision_config()
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=PROJECTED
    )
    checker = StableDiffusionSafetyChecker(config)
    checker.concept_embeds_weights.data.fill_(threshold)
    checker.special_care_embeds_weights.data.fill_(2.0)
    return checker.eval()


def _feature_extractor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def _save(pipeline: DiffusionPipeline, folder: Path) -> Path:
    pipeline.save_pretrained(folder)
    return folder
