"""Karlo: a prior guesses a picture's CLIP embedding, a decoder draws it, two networks enlarge it.

The unCLIP of Ramesh et al. 2022 (https://arxiv.org/abs/2204.06125), 256 px. The embedding of a
picture that is there can be drawn anew as well. Its pipelines have no callback: each of their
schedulers is watched.
"""

from __future__ import annotations

from typing import Any

import torch

from pipelines.editing import start_pictures
from pipelines.families import Batch, Result
from pipelines.families.assembled import load_pipeline
from pipelines.schedulers import watch_steps
from pipelines.shells import build_shell

__all__ = ["draw_batch", "load_pipeline"]

ENLARGING_STEPS = 7
"""What both enlarging networks were tuned for."""
PRIOR_GUIDANCE = 0.5
"""Of the request's guidance, which is the decoder's: Karlo's own are 4 and 8."""


def draw_batch(batch: Batch) -> list[Result]:
    """Draw one picture for each seed: of the words, or of the picture that it starts from."""
    from_picture = batch.request.start is not None
    steps = batch.request.num_inference_steps
    batch.steps.begin((1 if from_picture else 2) * steps + ENLARGING_STEPS)
    shell = build_shell(batch.loaded)
    if not from_picture:
        # The prior steps embeddings: there is nothing to show yet.
        watch_steps(shell.prior_scheduler, lambda *_: batch.steps.advance())
    for scheduler in (shell.decoder_scheduler, shell.super_res_scheduler):
        batch.steps.watch(scheduler)
    output = shell(
        **(_seen(batch) if from_picture else _said(batch)),
        decoder_num_inference_steps=steps,
        super_res_num_inference_steps=ENLARGING_STEPS,
        decoder_guidance_scale=batch.request.guidance_scale,
        num_images_per_prompt=len(batch.seeds),
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in batch.seeds],
        output_type="np",
    )
    return [Result(pixels) for pixels in output.images]


def _said(batch: Batch) -> dict[str, Any]:
    """What the prior makes an embedding of. Guidance of 1 is off for it too."""
    return {
        "prompt": batch.request.prompt,
        "prior_num_inference_steps": batch.request.num_inference_steps,
        "prior_guidance_scale": max(1.0, PRIOR_GUIDANCE * batch.request.guidance_scale),
    }


def _seen(batch: Batch) -> dict[str, Any]:
    """The picture whose embedding is drawn anew; no prior and no words are needed."""
    return {"image": start_pictures(batch.request, batch.images)["image"]}
