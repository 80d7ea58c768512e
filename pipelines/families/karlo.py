"""Karlo: a prior guesses a picture's CLIP embedding, a decoder draws it, two networks enlarge it.

The unCLIP of Ramesh et al. 2022 (https://arxiv.org/abs/2204.06125), 256 px. Its pipeline has no
callback: each of its three schedulers is watched.
"""

from __future__ import annotations

import torch

from pipelines.families import Batch, Result
from pipelines.families.assembled import load_pipeline
from pipelines.schedulers import watch_steps
from pipelines.shells import build_shell
from studio.request import GenerationRequest

__all__ = ["draw_batch", "load_pipeline"]

ENLARGING_STEPS = 7
"""What both enlarging networks were tuned for."""
PRIOR_GUIDANCE = 0.5
"""Of the request's guidance, which is the decoder's: Karlo's own are 4 and 8."""


def draw_batch(batch: Batch) -> list[Result]:
    """Draw one picture for each seed."""
    shell = build_shell(batch.loaded)
    steps = batch.request.num_inference_steps
    batch.steps.begin(2 * steps + ENLARGING_STEPS)
    # The prior steps embeddings: there is nothing to show yet.
    watch_steps(shell.prior_scheduler, lambda *_: batch.steps.advance())
    for scheduler in (shell.decoder_scheduler, shell.super_res_scheduler):
        batch.steps.watch(scheduler)
    output = shell(
        batch.request.prompt,
        prior_num_inference_steps=steps,
        decoder_num_inference_steps=steps,
        super_res_num_inference_steps=ENLARGING_STEPS,
        **guidance(batch.request),
        num_images_per_prompt=len(batch.seeds),
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in batch.seeds],
        output_type="np",
    )
    return [Result(pixels) for pixels in output.images]


def guidance(request: GenerationRequest) -> dict[str, float]:
    """The guidance of both guided networks; 1 is off, in each."""
    scale = request.guidance_scale
    return {
        "prior_guidance_scale": max(1.0, PRIOR_GUIDANCE * scale),
        "decoder_guidance_scale": scale,
    }
