"""What must hold of a row of assets/models.toml against the installed class of diffusers.

Each check yields what is wrong with a row, in words, and nothing if all is well.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from types import SimpleNamespace

from diffusers import DiffusionPipeline
from diffusers.loaders import TextualInversionLoaderMixin
from diffusers.loaders.lora_base import LoraBaseMixin
from diffusers.schedulers import KarrasDiffusionSchedulers
from PIL import Image

from pipelines.calls import call_arguments, pipeline_class_of, prompt_arguments
from studio.catalogue import Catalogue
from studio.ingredients import START_TASKS, TASKS, Start
from studio.request import GenerationRequest
from studio.specs import ModelSpec
from studio.weights import BASES

PICTURE, MASK = "1" * 32, "2" * 32
ONE_CALL = "diffusers"
BUILT_IN_GUIDANCE = ("FluxPipeline", "Flux2KleinPipeline")
"""Classes that ignore their guidance with distilled weights."""
NO_ADAPTERS_YET = ("sana_sprint", "x4_upscaler")
"""Families whose LoRAs nobody's file headers tell apart."""
WORDS_IN_PART = ("flux1",)
"""Families whose classes take embeddings for the smaller of two text encoders only."""
CLIP_TOKENS = 77


def classes_are_there(row: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    named = (row.pipeline_class, row.image_to_image_class, row.inpainting_class)
    diffusers = importlib.import_module("diffusers")
    for name in filter(None, named):
        found = getattr(diffusers, name, None)
        if not (inspect.isclass(found) and issubclass(found, DiffusionPipeline)):
            yield f"diffusers has no pipeline {name}"


def it_takes_what_is_sent(row: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    if row.backend not in (ONE_CALL, "deepfloyd"):
        return  # tests/test_families.py and its like draw with those
    for task in row.tasks:
        taken = _arguments(pipeline_class_of(row, task))
        for negative in ("", "blurry"):
            request = request_for(row, catalogue, task, negative)
            if request is None:
                continue
            sent = {*call_arguments(row, request, [7], pictures()), *prompt_arguments(row, request)}
            yield from (f"{task}: `{name}` is not taken" for name in sorted(sent - taken))


def pictures_reach_it(row: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    for task in row.tasks:
        if task not in TASKS:
            yield f"{task} is no task"
        if task not in START_TASKS or row.backend != ONE_CALL:
            continue
        wanted = {"image", "mask_image"} if task in ("inpainting", "outpainting") else {"image"}
        if wanted - _arguments(pipeline_class_of(row, task)):
            yield f"{task} gets no picture"


def schedulers_fit(row: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    pipeline_class = pipeline_class_of(row, "text_to_image")
    is_sprint = row.pipeline_class == "SanaSprintPipeline"
    fitting = OF_SANA_SPRINT if is_sprint else _fitting_schedulers(pipeline_class)
    for key in row.schedulers:
        spec = catalogue.schedulers[key]
        if spec.family != row.scheduler_family:
            yield f"{key} is for {spec.family}, not {row.scheduler_family}"
        elif spec.class_name and spec.class_name not in fitting:
            yield f"{key} is not compatible"


PROVEN: Mapping[str, set[str]] = {
    "PNDMScheduler": {"LCMScheduler", "TCDScheduler"},
    "LCMScheduler": {"LCMScheduler"},
    "FlowMatchEulerDiscreteScheduler": {"DPMSolverMultistepScheduler", "UniPCMultistepScheduler"},
}
"""What draws from checkpoints of a scheduler, but is not among its `compatibles`.
tests/test_solvers.py shows that they arrive."""
OF_SANA_SPRINT = {"SCMScheduler"}
"""Its class asks for another by mistake, and can be called with this one only."""


def negative_prompts_are_as_stated(row: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    is_taken = "negative_prompt" in _arguments(pipeline_class_of(row, "text_to_image"))
    needs_second_guidance = row.guidance in ("embedded", "none")
    if row.negative_prompt and not is_taken:
        yield "the class takes no negative prompt"
    if is_taken and not row.negative_prompt and not needs_second_guidance:
        yield "the class takes a negative prompt, the row does not"


def guidance_is_as_stated(row: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    if row.guidance not in ("cfg", "true_cfg", "embedded", "none"):
        yield f"{row.guidance} is no kind of guidance"
    pipeline_class = pipeline_class_of(row, "text_to_image")
    if row.guidance == "none":
        if pipeline_class.__name__ not in BUILT_IN_GUIDANCE or row.defaults.guidance_scale != 1:
            yield "its class would guide by its own default"
    elif row.guidance_argument not in _arguments(pipeline_class):
        yield f"`{row.guidance_argument}` is not taken"
    elif row.guidance == "cfg" and _guides_at(pipeline_class, row.guidance_off):
        yield f"{row.guidance_off} does not turn its guidance off"


def callback_and_interrupt_are_as_stated(row: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    pipeline_class = pipeline_class_of(row, "text_to_image")
    taken = _arguments(pipeline_class)
    styles = {"callback_on_step_end": "new", "callback": "legacy"}
    style = next((style for name, style in styles.items() if name in taken), "none")
    if row.callback != style:
        yield f"its callback is {style}"
    looks = "self.interrupt" in inspect.getsource(pipeline_class.__call__)
    if row.interrupts != looks:
        yield f"that it looks at `_interrupt` is {looks}"


def adapters_are_as_stated(row: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    pipeline_class = pipeline_class_of(row, "text_to_image")
    takes_loras = issubclass(pipeline_class, LoraBaseMixin) and row.backend == ONE_CALL
    takes_words = issubclass(pipeline_class, TextualInversionLoaderMixin)
    if row.lora != takes_loras:
        yield f"that it takes LoRAs is {takes_loras}"
    if row.textual_inversion != (takes_words and row.family not in WORDS_IN_PART):
        yield f"that it takes embeddings is {takes_words}"
    if row.base not in (*BASES, None):
        yield f"no base is called {row.base}"
    if row.lora and row.base is None and row.family not in NO_ADAPTERS_YET:
        yield "which LoRAs fit is not said"


def prompts_are_as_stated(row: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    pipeline_class = pipeline_class_of(row, "text_to_image")
    encoder = _encoder_of(pipeline_class)
    if encoder not in ("none", row.prompt_encoder):
        yield f"its prompts are read by a {encoder}"
    limit = inspect.signature(pipeline_class.__call__).parameters.get("max_sequence_length")
    longest = CLIP_TOKENS if limit is None else limit.default
    if not 0 < row.max_tokens <= longest:
        yield f"its prompts have at most {longest} tokens"


CHECKS = (
    classes_are_there,
    it_takes_what_is_sent,
    pictures_reach_it,
    schedulers_fit,
    negative_prompts_are_as_stated,
    guidance_is_as_stated,
    callback_and_interrupt_are_as_stated,
    adapters_are_as_stated,
    prompts_are_as_stated,
)


def request_for(
    row: ModelSpec, catalogue: Catalogue, task: str, negative: str = ""
) -> GenerationRequest | None:
    """A typical request for one of a row's tasks; None if it takes no negative prompt."""
    if negative and not row.negative_prompt:
        return None
    own = row.defaults
    return GenerationRequest(
        prompt="a red chair",
        negative_prompt=negative,
        model=row.key,
        scheduler=own.scheduler,
        num_inference_steps=own.num_inference_steps,
        guidance_scale=own.guidance_scale,
        width=own.width,
        height=own.height,
        start=start_of(task) if task in START_TASKS else None,
    )


def start_of(task: str) -> Start:
    """What a request for a task starts from."""
    mask = MASK if task == "inpainting" else None
    margins = (8, 0, 0, 0) if task == "outpainting" else (0, 0, 0, 0)
    return Start(task=task, picture=PICTURE, mask=mask, margins=margins)


@functools.cache
def pictures() -> Mapping[str, Image.Image]:
    return {PICTURE: Image.new("RGB", (64, 64)), MASK: Image.new("L", (64, 64))}


def _arguments(pipeline_class: type[DiffusionPipeline]) -> set[str]:
    """What its call names; a bag of `**kwargs` takes nothing."""
    parameters = inspect.signature(pipeline_class.__call__).parameters.values()
    return {one.name for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD}


def _fitting_schedulers(pipeline_class: type[DiffusionPipeline]) -> set[str]:
    """Names of the classes that go with the one which its constructor asks for."""
    wanted = inspect.signature(pipeline_class.__init__).parameters.get("scheduler")
    if wanted is None:
        return set()
    asked = wanted.annotation
    if asked is KarrasDiffusionSchedulers:
        return {one.name for one in KarrasDiffusionSchedulers} | PROVEN["PNDMScheduler"]
    return {asked.__name__, *PROVEN.get(asked.__name__, ())} | _names(asked._compatibles)


def _names(compatibles: list[object]) -> set[str]:
    return {str(getattr(one, "name", one)) for one in compatibles}


def _guides_at(pipeline_class: type[DiffusionPipeline], scale: float) -> bool:
    """Whether the class calls its network twice a step at that guidance."""
    wanted = getattr(pipeline_class, "do_classifier_free_guidance", None)
    if wanted is None:
        source = inspect.getsource(pipeline_class.__call__)
        return not (scale == 1 and re.search(r"guidance_scale > 1(\.0)?\b", source))
    config = SimpleNamespace(time_cond_proj_dim=None, is_distilled=False)
    unet = SimpleNamespace(config=config)
    return bool(wanted.fget(SimpleNamespace(_guidance_scale=scale, unet=unet, config=config)))


def _encoder_of(pipeline_class: type[DiffusionPipeline]) -> str:
    """The most able of the text encoders that its constructor asks for."""
    asked = inspect.signature(pipeline_class.__init__).parameters.values()
    names = " ".join(str(one.annotation) for one in asked if "text_encoder" in one.name)
    if not names or "T5" in names:
        return "t5" if names else "none"
    return "clip" if "CLIP" in names else "llm"
