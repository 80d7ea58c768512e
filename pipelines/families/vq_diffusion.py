"""VQ-Diffusion: the codes of a picture, all masked at first, are uncovered step by step.

Gu et al. 2022 (https://arxiv.org/abs/2111.14822), 256 px. Its scheduler draws codes on the device
of the network and with one generator for all pictures: each picture is drawn alone, and another
device draws another one from the same seed.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from pipelines.families import Batch, Result
from pipelines.families.assembled import load_pipeline
from pipelines.previews import small_jpeg
from pipelines.schedulers import watch_steps
from pipelines.shells import build_shell

__all__ = ["draw_batch", "load_pipeline"]

TRUNCATION_RATE = 1.0
"""Share of the likeliest codes that may be drawn; 1 is all of them, the pipeline's default."""
PREVIEW_INTERVAL_S = 0.2
PREVIEW_SHARE = 0.1
"""Of the time, at most, that decoding previews may take."""


def draw_batch(batch: Batch) -> list[Result]:
    """Draw one picture for each seed, one after the other."""
    steps = batch.request.num_inference_steps
    batch.steps.begin(steps * len(batch.seeds))
    previews = _Previews(batch.loaded.pipeline)
    return [Result(_draw(batch, seed, previews)) for seed in batch.seeds]


def _draw(batch: Batch, seed: int, previews: _Previews) -> np.ndarray:
    shell = build_shell(batch.loaded)

    def on_step(output: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor) -> None:
        batch.steps.advance(previews.of(output))

    watch_steps(shell.scheduler, on_step)
    output = shell(
        batch.request.prompt,
        num_inference_steps=batch.request.num_inference_steps,
        guidance_scale=batch.request.guidance_scale,
        truncation_rate=TRUNCATION_RATE,
        generator=torch.Generator(shell.device).manual_seed(seed),
        output_type="np",
    )
    return output.images[0].astype(np.float32)


@dataclass(slots=True)
class _Previews:
    """Decodes the likeliest codes from time to time."""

    pipeline: DiffusionPipeline
    due: float = -math.inf

    def of(self, log_likelihoods: torch.Tensor) -> bytes | None:
        """A JPEG of the first picture's likeliest codes, of (B, codes, pixels); None if not due."""
        started = time.monotonic()
        if started < self.due:
            return None
        jpeg = small_jpeg(self._decode(log_likelihoods[:1].argmax(1)))
        took = time.monotonic() - started
        self.due = started + max(PREVIEW_INTERVAL_S, took / PREVIEW_SHARE)
        return jpeg

    def _decode(self, codes: torch.Tensor) -> Image.Image:
        vqvae, transformer = self.pipeline.vqvae, self.pipeline.transformer
        shape = (1, transformer.height, transformer.width, vqvae.config.vq_embed_dim)
        embedded = vqvae.quantize.get_codebook_entry(codes, shape=shape)
        pixels = vqvae.decode(embedded, force_not_quantize=True).sample[0]
        rgb = (pixels.float() / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).cpu().numpy()
        return Image.fromarray((rgb * 255).round().astype("uint8"))
