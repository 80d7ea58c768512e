"""DeepFloyd IF: pixels at 64 px, enlarged to 256 px, from what a text encoder said before.

The first two of its three stages (Saharia et al. 2022, https://arxiv.org/abs/2205.11487); the
third is Stable Diffusion's upscaler, which `one_call` draws with. The text encoder is not part of
the loaded model: see `pipelines.encoder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.deepfloyd_if import timesteps as presets
from PIL import Image

from pipelines.calls import call_arguments
from pipelines.families import Batch, Result, assembled
from pipelines.schedulers import build_scheduler, count_steps
from pipelines.shells import build_shell

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

    from pipelines.checkpoints import Checkpoint


def load_pipeline(checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> DiffusionPipeline:
    """Load all components but the text encoder; its files may lack."""
    return assembled.load_pipeline(checkpoint, device, dtype, without=("text_encoder",))


def draw_batch(batch: Batch) -> list[Result]:
    """Draw one picture for each seed, look whether it is safe, put the watermark on it."""
    loaded = batch.loaded
    scheduler = build_scheduler(batch.scheduler_spec, loaded.scheduler_config, loaded.scheduler)
    timesteps = preset(batch.scheduler_spec.timesteps)
    batch.steps.begin(len(timesteps or ()) or _count(batch, scheduler))
    batch.steps.watch(scheduler)
    shell = build_shell(loaded, scheduler)
    arguments = call_arguments(loaded.spec, batch.request, batch.seeds, batch.images)
    output = shell(**arguments, **batch.embeddings, timesteps=timesteps)
    pixels = _marked(shell, output.images)
    return [Result(*one) for one in zip(pixels, _flags(output, len(pixels)), strict=True)]


def preset(name: str | None) -> list[int] | None:
    """The steps that IF's authors found good, such as "smart50"; None is evenly spaced ones."""
    return getattr(presets, f"{name}_timesteps") if name else None


def _count(batch: Batch, scheduler: SchedulerMixin) -> int:
    return count_steps(scheduler, batch.scheduler_spec, batch.request.num_inference_steps)


def _marked(shell: DiffusionPipeline, pixels: np.ndarray) -> Sequence[np.ndarray]:
    """Put the watermark on pictures (B, H, W, 3) in [0, 1], as their licence asks.

    The pipeline does so itself only where it returns PIL pictures.
    """
    if shell.watermarker is None:
        return list(pixels)
    pictures = [Image.fromarray(one) for one in (pixels * 255).round().astype("uint8")]
    marked = shell.watermarker.apply_watermark(pictures, shell.unet.config.sample_size)
    return [np.asarray(picture, dtype=np.float32) / 255 for picture in marked]


def _flags(output: Any, count: int) -> list[bool]:
    """What the safety checker held back: unfit for all eyes, or with another's watermark."""
    verdicts = (output.nsfw_detected, output.watermark_detected)
    unfit, foreign = (verdict or [False] * count for verdict in verdicts)
    return [one or other for one, other in zip(unfit, foreign, strict=True)]
