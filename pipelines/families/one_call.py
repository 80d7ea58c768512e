"""Models that diffusers loads with `from_pretrained` and draws with one call of a pipeline."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from pipelines.calls import (
    call_arguments,
    count_calls,
    pipeline_class_of,
)
from pipelines.families import Batch, Result, assembled
from pipelines.holding import place
from pipelines.prompts import prompt_arguments
from pipelines.refining import draw_refined, prepare
from pipelines.safety import find_flaw
from pipelines.schedulers import build_scheduler, seed_noise
from pipelines.shells import build_shell
from studio.ingredients import Start
from studio.request import GenerationRequest

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

    from pipelines.checkpoints import Checkpoint

DRAWN = "input-" + "0" * 64
"""Id of the picture that a second pass starts from; no uploaded file has it."""
OLD_NAME = "DPTFeatureExtractor"
"""What older checkpoints name, and diffusers does not find under its name of today."""
STRAIGHT = ("cuda",)
"""Devices that weights are read to from their files, not by way of the machine's memory. diffusers
knows kinds of devices only, and so means the first of each; on a CPU nothing is gained."""


def load_pipeline(checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> DiffusionPipeline:
    """Load all components of a checkpoint in diffusers' layout."""
    if _has_old_names(checkpoint.folder):
        pipeline = assembled.load_pipeline(checkpoint, "cpu", dtype)
        return place(pipeline, checkpoint.holding, device)
    pipeline_class = getattr(importlib.import_module("diffusers"), checkpoint.spec.pipeline_class)
    is_straight = checkpoint.holding == "full" and device in STRAIGHT
    pipeline = pipeline_class.from_pretrained(
        checkpoint.folder,
        dtype=dtype,
        variant=checkpoint.variant,
        use_safetensors=True,
        local_files_only=True,
        device_map=device if is_straight else None,
    )
    pipeline.hf_device_map = None  # it is as movable as any
    return place(pipeline, checkpoint.holding, device)


def _has_old_names(folder: Path) -> bool:
    """Whether a component's class has another name by now that diffusers does not know.

    Stable Diffusion 2's depth model names a feature extractor; transformers 5 has image processors.
    """
    return OLD_NAME in (folder / "model_index.json").read_text(encoding="utf-8")


def draw_batch(batch: Batch) -> list[Result]:
    """Draw one picture for each seed, and once more over them where a second pass is wanted."""
    if batch.refiner is not None and batch.request.start is None:
        schedulers = prepare(batch)
        batch.steps.begin(schedulers.base_calls + schedulers.refiner_calls)
        return draw_refined(batch, schedulers)
    scheduler = _scheduler(batch)
    calls = _count(batch, scheduler, batch.request)
    again = _second_request(batch.request, batch.loaded.spec.multiple_of)
    calls_again = _count(batch, _scheduler(batch), again) * len(batch.seeds) if again else 0
    batch.steps.begin(calls + calls_again)
    drawn = _call(batch, batch.request, scheduler)
    return drawn if again is None else _draw_over(batch, again, drawn)


def _call(batch: Batch, request: GenerationRequest, scheduler: SchedulerMixin) -> list[Result]:
    """One call of the pipeline that does what the request starts with."""
    spec = batch.loaded.spec
    task = request.start.task if request.start else "text_to_image"
    batch.steps.watch(scheduler)
    shell = build_shell(batch.loaded, scheduler, pipeline_class_of(spec, task))
    arguments = call_arguments(spec, request, batch.seeds, batch.images)
    said = prompt_arguments(batch.loaded, request, on_version=batch.steps.stop_if_cancelled)
    output = shell(**said, **arguments)
    flags = _flags(output, len(batch.seeds))
    return [Result(pixels, flag) for pixels, flag in zip(output.images, flags, strict=True)]


def _draw_over(batch: Batch, again: GenerationRequest, drawn: list[Result]) -> list[Result]:
    """Draw each picture anew from its enlarged self, one by one: each has an image of its own.

    One with a flaw stays as it is: drawn over, nobody would see the flaw.
    """
    results = []
    for seed, result in zip(batch.seeds, drawn, strict=True):
        if find_flaw(result.pixels, result.is_flagged):
            results.append(result)
            continue
        picture = Image.fromarray((result.pixels * 255).round().astype("uint8"))
        alone = replace(batch, seeds=[seed], images={**batch.images, DRAWN: picture})
        results += _call(alone, again, _scheduler(alone))
    return results


def _second_request(request: GenerationRequest, multiple: int) -> GenerationRequest | None:
    """The request of a second pass: its sides in steps of `multiple` px, its start the drawn."""
    second = request.second_pass
    if second is None:
        return None
    large = (second.scale * side for side in (request.width, request.height))
    width, height = (max(1, round(side / multiple)) * multiple for side in large)
    start = Start(task="image_to_image", picture=DRAWN, strength=second.strength)
    return replace(request, width=width, height=height, start=start, second_pass=None)


def _scheduler(batch: Batch) -> SchedulerMixin:
    """A private scheduler, its noise seeded."""
    loaded = batch.loaded
    scheduler = build_scheduler(batch.scheduler_spec, loaded.scheduler_config, loaded.scheduler)
    seed_noise(scheduler, list(batch.seeds))
    return scheduler


def _count(batch: Batch, scheduler: SchedulerMixin, request: GenerationRequest) -> int:
    return count_calls(scheduler, batch.scheduler_spec, batch.loaded.spec, request)


def _flags(output: Any, count: int) -> list[bool]:
    """The verdicts of the checkpoint's own safety checker, if it bundles one."""
    return getattr(output, "nsfw_content_detected", None) or [False] * count
