"""What a pipeline is called with: a request in the words of its class, as the row says."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DiffusionPipeline

from pipelines.control import guide_arguments
from pipelines.editing import start_pictures
from pipelines.schedulers import count_steps
from studio.errors import InvalidRequest

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin
    from PIL import Image

    from studio.request import GenerationRequest
    from studio.specs import ModelSpec, SchedulerSpec


SHORTENING = ("LatentConsistencyModelImg2ImgPipeline",)
"""Classes that make every step asked for, of a schedule that the strength has shortened."""


def pipeline_class_of(spec: ModelSpec, task: str) -> type[DiffusionPipeline]:
    """The class of diffusers that does a task with the components of a model."""
    names = {
        "image_to_image": spec.image_to_image_class,
        "inpainting": spec.inpainting_class,
        "outpainting": spec.inpainting_class,
    }
    return getattr(importlib.import_module("diffusers"), names.get(task) or spec.pipeline_class)


def call_arguments(
    spec: ModelSpec,
    request: GenerationRequest,
    seeds: Sequence[int],
    images: Mapping[str, Image.Image],
) -> dict[str, Any]:
    """The keyword arguments of one call for `len(seeds)` pictures, but for the prompts."""
    return {
        "num_inference_steps": request.num_inference_steps,
        **guidance_arguments(spec, request),
        **_arguments_taken(spec, request, images),
        **guide_arguments(request, images),
        "num_images_per_prompt": len(seeds),
        "generator": [torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        "output_type": "np",
    }


def guidance_arguments(spec: ModelSpec, request: GenerationRequest) -> dict[str, float]:
    """How closely to follow the prompt; 1 in a request is what turns it off in the pipeline."""
    if spec.guidance == "none":
        return {}
    is_off = request.guidance_scale == 1 and spec.guidance != "embedded"
    return {spec.guidance_argument: spec.guidance_off if is_off else request.guidance_scale}


def prompt_arguments(spec: ModelSpec, request: GenerationRequest) -> dict[str, str]:
    """Both prompts as text. With "true" guidance an empty negative prompt must be a space."""
    if not spec.negative_prompt:
        return {"prompt": request.prompt}
    empty = " " if spec.guidance == "true_cfg" and request.guidance_scale > 1 else ""
    return {"prompt": request.prompt, "negative_prompt": request.negative_prompt or empty}


def strength_of(spec: ModelSpec, request: GenerationRequest) -> float:
    """How much of the picture to start from may change; 1 is all, or that the class cannot say."""
    if request.start is None:
        return 1.0
    taken = inspect.signature(pipeline_class_of(spec, request.start.task).__call__).parameters
    return request.start.strength if "strength" in taken else 1.0


def count_calls(
    scheduler: SchedulerMixin,
    scheduler_spec: SchedulerSpec,
    spec: ModelSpec,
    request: GenerationRequest,
) -> int:
    """How often the model will be called for one picture of a request.

    Raises:
        InvalidRequest: the scheduler cannot make a schedule of that length, or no step is left.
    """
    steps, strength = request.num_inference_steps, strength_of(spec, request)
    task = request.start.task if request.start else "text_to_image"
    if pipeline_class_of(spec, task).__name__ in SHORTENING:
        return count_steps(scheduler, scheduler_spec, steps, strength=strength)
    if spec.scheduler_family != "ddpm":  # these pipelines round up what is left
        return (steps - int(steps - steps * strength)) * scheduler_spec.calls_per_step
    left = min(int(steps * strength), steps)
    if not left:
        raise InvalidRequest(
            f"A strength of {strength:g} leaves none of {steps} steps to draw. Choose at least "
            f"{math.ceil(1 / strength)} steps, or more strength."
        )
    order = getattr(scheduler, "order", 1)
    return count_steps(scheduler, scheduler_spec, steps) - (steps - left) * order


def _arguments_taken(
    spec: ModelSpec, request: GenerationRequest, images: Mapping[str, Image.Image]
) -> dict[str, Any]:
    """The size, the picture to start from and other limits, as far as the class takes them."""
    task = request.start.task if request.start else "text_to_image"
    taken = inspect.signature(pipeline_class_of(spec, task).__call__).parameters
    given: dict[str, Any] = {
        "width": request.width,
        "height": request.height,
        "max_sequence_length": spec.max_tokens,
    }
    if request.num_inference_steps != 2:  # Sana Sprint's step in the middle is for two alone
        given["intermediate_timesteps"] = None
    if request.start is not None:
        given |= start_pictures(request, images) | {"strength": request.start.strength}
    return {name: value for name, value in given.items() if name in taken}
