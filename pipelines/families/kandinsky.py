"""Kandinsky 2.2: a prior turns the text into what a CLIP would say of the picture, a decoder draws.

The two are checkpoints of their own. diffusers' combined pipelines would fetch the prior from the
Hub by the decoder's card, cannot seed each picture by itself and a negative prompt as well, and
take an empty negative prompt for a wish.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from diffusers import (
    DDPMScheduler,
    KandinskyV22CombinedPipeline,
    KandinskyV22Img2ImgPipeline,
    KandinskyV22Pipeline,
    KandinskyV22PriorPipeline,
)

from pipelines.calls import count_calls
from pipelines.editing import start_pictures
from pipelines.families import Batch, Result
from pipelines.holding import place
from pipelines.schedulers import build_scheduler, watch_steps
from pipelines.shells import build_shell
from studio.errors import ModelUnavailable

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

    from pipelines.checkpoints import Checkpoint

PRIOR_STEPS = 25
PRIOR_GUIDANCE = 4.0
PREFIX = "prior_"


def load_pipeline(checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> DiffusionPipeline:
    """Load both checkpoints; the prior's components have names that begin with "prior_".

    Raises:
        ModelUnavailable: the prior is missing.
    """
    if checkpoint.prior is None:
        raise ModelUnavailable(
            f"{checkpoint.spec.title} needs a second checkpoint, its prior: put it into a folder "
            f"“prior” inside the folder of the first, or let Croquis download both."
        )
    decoder = _load(KandinskyV22Pipeline, checkpoint, dtype)
    prior = _load(KandinskyV22PriorPipeline, replace(checkpoint, folder=checkpoint.prior), dtype)
    parts = {PREFIX + name: part for name, part in prior.components.items()}
    pipeline = KandinskyV22CombinedPipeline(**decoder.components, **parts)
    return place(pipeline, checkpoint.holding, device)


def _load(
    pipeline_class: type[DiffusionPipeline], checkpoint: Checkpoint, dtype: torch.dtype
) -> DiffusionPipeline:
    return pipeline_class.from_pretrained(
        checkpoint.folder,
        dtype=dtype,
        variant=checkpoint.variant,
        use_safetensors=True,
        local_files_only=True,
    )


def draw_batch(batch: Batch) -> list[Result]:
    """Ask the prior about each picture alone, then draw all at once."""
    request = batch.request
    scheduler = _scheduler(batch)
    spec = replace(batch.loaded.spec, image_to_image_class=KandinskyV22Img2ImgPipeline.__name__)
    calls = count_calls(scheduler, batch.scheduler_spec, spec, request)
    batch.steps.begin(PRIOR_STEPS * len(batch.seeds) + calls)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in batch.seeds]
    said = [_ask_prior(batch, generator) for generator in generators]
    batch.steps.watch(scheduler)
    wanted, unwanted = (torch.cat(embeds) for embeds in zip(*said, strict=True))
    output = _decoder(batch, scheduler)(
        image_embeds=wanted,
        negative_image_embeds=unwanted,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        width=request.width,
        height=request.height,
        generator=generators,
        output_type="np",
        **_start(batch),
    )
    return [Result(pixels) for pixels in output.images]


def _ask_prior(batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """What a CLIP would say of the picture, and of the unwanted one; both (1, D)."""
    request, components = batch.request, batch.loaded.pipeline.components
    is_guided = request.guidance_scale > 1
    parts = {
        name.removeprefix(PREFIX): part
        for name, part in components.items()
        if name.startswith(PREFIX)
    }
    scheduler = type(parts["scheduler"]).from_config(parts["scheduler"].config)
    watch_steps(scheduler, lambda *_: batch.steps.advance())
    prior = KandinskyV22PriorPipeline(**{**parts, "scheduler": scheduler})
    prior.set_progress_bar_config(disable=True)
    return prior(
        request.prompt,
        negative_prompt=(request.negative_prompt or None) if is_guided else None,
        num_inference_steps=PRIOR_STEPS,
        guidance_scale=PRIOR_GUIDANCE if is_guided else 1.0,
        generator=generator,
        output_type="pt",
        return_dict=False,
    )


def _scheduler(batch: Batch) -> SchedulerMixin:
    """A private scheduler. By its `variance_type` the decoder leaves the variance that it learnt
    in what it hands on, which only DDPM reads."""
    loaded, spec = batch.loaded, batch.scheduler_spec
    scheduler = build_scheduler(spec, loaded.scheduler_config, loaded.scheduler)
    if isinstance(scheduler, DDPMScheduler):
        return scheduler
    config = {k: v for k, v in loaded.scheduler_config.items() if k != "variance_type"}
    return build_scheduler(spec, config, loaded.scheduler)


def _decoder(batch: Batch, scheduler: SchedulerMixin) -> DiffusionPipeline:
    pipeline_class = KandinskyV22Img2ImgPipeline if batch.request.start else KandinskyV22Pipeline
    return build_shell(batch.loaded, scheduler, pipeline_class)


def _start(batch: Batch) -> dict[str, Any]:
    """The picture to start from, once for each that is drawn."""
    start = batch.request.start
    if start is None:
        return {}
    picture = start_pictures(batch.request, batch.images)["image"]
    return {"image": [picture] * len(batch.seeds), "strength": start.strength}
