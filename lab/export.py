"""Write the built-in model as a folder that `StableDiffusionPipeline.from_pretrained` loads."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from shutil import copyfile, rmtree
from typing import TYPE_CHECKING

import torch

from lab.networks import build_scheduler, build_unet
from lab.store import load_checkpoint
from lab.tokens import load_tokenizer
from studio.specs import LORA_FILE

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

TARGET = Path("assets/builtin")
FAST = "fast"
"""Folder of the four-step variant's LoRA, inside the model's."""
SCHEDULER_READERS = {"clip_sample": False, "set_alpha_to_one": False, "skip_prk_steps": True}
"""What other schedulers than Euler read, as the folders of Stable Diffusion say it."""


def build_pipeline(cache: Path) -> StableDiffusionPipeline:
    """Put the pipeline together from the checkpoints: averaged weights, float32."""
    from diffusers import AutoencoderKL, StableDiffusionPipeline
    from transformers import CLIPTextModel

    refined = cache / "autoencoder-refined"
    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(refined if refined.exists() else cache / "autoencoder"),
        text_encoder=CLIPTextModel.from_pretrained(cache / "text-encoder").eval(),
        tokenizer=load_tokenizer(cache / "tokenizer"),
        unet=read_unet(cache / "denoiser.safetensors"),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@torch.no_grad()
def read_unet(path: Path) -> UNet2DConditionModel:
    """Return the averaged denoiser of a checkpoint."""
    unet = build_unet()
    tensors, _ = load_checkpoint(path)
    for name, parameter in unet.named_parameters():
        parameter.copy_(tensors[f"average.{name}"])
    return unet.eval()


def export(cache: Path, target: Path) -> None:
    """Save the pipeline in half precision with its four-step LoRA, and strip where it was made.

    diffusers loads half precision as float32 unless told otherwise; transformers loads as what
    the configuration says, so that says float32.
    """
    pipeline = build_pipeline(cache)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.half()
    pipeline.save_pretrained(target)
    learnt, teacher = cache / "fast-lora.safetensors", cache / "denoiser.safetensors"
    rmtree(target / FAST, ignore_errors=True)  # one of other weights would draw noise
    if learnt.exists() and learnt.stat().st_mtime >= teacher.stat().st_mtime:
        (target / FAST).mkdir()
        copyfile(learnt, target / FAST / LORA_FILE)
    _complete(target / "scheduler" / "scheduler_config.json", SCHEDULER_READERS)
    _complete(target / "text_encoder" / "config.json", {"dtype": "float32"})
    for config in target.rglob("*.json"):
        settings = json.loads(config.read_text("utf-8"))
        if isinstance(settings, dict) and settings.pop("_name_or_path", None) is not None:
            config.write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def _complete(path: Path, more: dict) -> None:
    settings = json.loads(path.read_text("utf-8")) | more
    path.write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def main() -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(".lab"))
    parser.add_argument("--target", type=Path, default=TARGET)
    options = parser.parse_args()
    export(options.cache, options.target)


if __name__ == "__main__":
    main()
