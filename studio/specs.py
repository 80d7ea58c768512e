"""What Croquis knows of a model and of a scheduler: one frozen row for each TOML table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from studio.settings import ROOT, Settings

LORA_FILE = "pytorch_lora_weights.safetensors"
TEXT_ENCODER = "text_encoder"
"""Folder of that component in diffusers' layout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a model draws best with; a request starts from these."""

    scheduler: str
    num_inference_steps: int
    guidance_scale: float
    width: int
    height: int
    upscale: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One table of assets/models.toml, upon the table of its family in assets/families.toml."""

    # What it is

    key: str
    title: str
    summary: str
    """What it is good at, in one line."""
    sources: tuple[str, ...]
    """Hub repositories or folders of this repository, best first.

    "owner/name@commit" is a Hub repository at that commit, "owner/name" at its newest.
    """
    also_called: tuple[str, ...] = ()
    """Hub ids that it had, and names of its single file elsewhere, without the ending."""
    folder: str | None = None
    """Folder of this machine that a host typed in: it is there in the place of all sources."""
    is_added: bool = False
    """Whether a host typed it in."""
    family: str
    """Key of a table in assets/families.toml, whose values it has where it states none."""
    status: str = "stable"
    """"stable" or "experimental"."""
    uncertain: tuple[str, ...] = ()
    """Names of fields whose values were not confirmed; the page says so."""

    # Who may use it

    licence: str
    licence_url: str
    commercial_use: str
    """"yes", "no", "conditional" or "unknown"."""
    gated: str = "no"
    """Whether the Hub asks to accept the licence first: "no", "yes" or "unknown"."""
    watermark: bool = False
    """Its licence asks that its watermark stays in the pictures."""

    # How it is loaded

    pipeline_class: str
    """diffusers' class that draws with it from a text alone, or from what its tasks ask for."""
    backend: str = "diffusers"
    """"diffusers": `from_pretrained` loads it; else the module of pipelines/families that does."""
    text_encoder: str | None = None
    """Key of the model whose text encoder reads its prompts. It is in memory only while it does:
    before the rest of the model is loaded. If the key is another's, its own is never fetched."""
    prior_sources: tuple[str, ...] = ()
    """Where a second checkpoint that it needs is, its prior; named as `sources` are."""
    variant: str | None = None
    """Weight files to prefer, such as "fp16"."""
    fused_lora: str | None = None
    """Folder of this repository with a LoRA in diffusers' format, which is fused into the weights
    when they are loaded: a variant of another model without a second checkpoint."""
    hub_lora: str | None = None
    """The same from the Hub: "owner/name/file.safetensors"."""
    gpu_dtype: str = "float16"
    """Number format of the weights on a GPU: "float16" or "bfloat16", both of 2 bytes."""
    requires: tuple[str, ...] = ()
    """Python packages that it needs besides requirements.txt."""
    files: tuple[str, ...] = ()
    """What to download where the repository is not in diffusers' layout."""
    download_gb: float
    memory_gb: float
    """Memory that it takes while it draws on a GPU, in 16-bit numbers: weights and work, about."""
    memory_offload_gb: float | None = None
    """The same on the device while parts that do not work wait in the machine's memory."""

    hosted: bool = False
    """Whether inference providers offer it."""
    can_offload: bool = True
    """Whether its parts can wait in the machine's memory while they do not work."""

    # What it can do

    tasks: tuple[str, ...] = ("text_to_image",)
    """What of `studio.ingredients.TASKS` it can do."""
    image_to_image_class: str | None = None
    inpainting_class: str | None = None
    """diffusers' classes around the same components for those tasks."""
    lora: bool = False
    """Whether a request may add LoRAs."""
    textual_inversion: bool = False
    """Whether a request may add embeddings."""
    base: str | None = None
    """Which LoRAs, embeddings and control networks fit: "sd1", "sd2", "sdxl", "flux1", ..."""
    next_stage: str | None = None
    """Key of the model that enlarges its pictures, for cascades."""
    refiner: str | None = None
    """Key of the model that draws the last steps, if the visitor wants."""

    # How it is called

    scheduler_family: str = "ddpm"
    """"ddpm" (betas), "flow" (flow matching) or "fixed" (the checkpoint's own, no choice)."""
    schedulers: tuple[str, ...]
    """Keys of assets/schedulers.toml that work with it."""
    min_steps: int = 1
    max_steps: int = 200
    guidance: str = "cfg"
    """"cfg" (two calls a step), "true_cfg" (two calls, if there is a negative prompt),
    "embedded" (a number that the network was taught to read) or "none"."""
    guidance_argument: str = "guidance_scale"
    """Argument of the pipeline that carries it."""
    guidance_off: float = 1.0
    """What is sent where a request says 1, which is off."""
    negative_prompt: bool = True
    """Whether a negative prompt has an effect (with guidance on)."""
    prompt_encoder: str = "clip"
    """"clip", "t5" or "llm"."""
    max_tokens: int = 77
    """Of the prompt, with the marks of its start and end."""
    callback: str = "new"
    """Of the pipeline: "new" (`callback_on_step_end`), "legacy" (`callback`) or "none"."""
    interrupts: bool = True
    """Whether the pipeline looks at its `_interrupt` between steps."""

    # Its limits

    multiple_of: int
    min_side: int
    max_side: int
    """Limits of width and height in px, as drawn (before upscaling)."""
    square: bool = False
    """Whether width and height must be the same."""
    max_images: int
    upscale_choices: tuple[int, ...]
    tiling_choices: tuple[str, ...] = ("none",)
    """What of `studio.request.TILINGS` it can do; U-Nets can do all, transformers none."""
    defaults: Defaults

    @property
    def reads_itself(self) -> bool:
        """Whether it needs the text encoder of its own checkpoint."""
        return self.text_encoder in (None, self.key)

    def with_memory(self, memory_gb: float) -> ModelSpec:
        """The same row with the memory that was counted; what offload needs shrinks with it."""
        offload_gb = self.memory_offload_gb
        if offload_gb is not None:
            offload_gb *= memory_gb / self.memory_gb
        return replace(self, memory_gb=memory_gb, memory_offload_gb=offload_gb)

    @property
    def lora_file(self) -> Path | None:
        """The weights of `fused_lora`; safetensors, under diffusers' own name."""
        return ROOT / self.fused_lora / LORA_FILE if self.fused_lora else None

    def local_path(self, settings: Settings) -> Path | None:
        """The folder to load from: the host's own, or a source inside this repository."""
        if self.key in settings.model_paths:
            return settings.model_paths[self.key]
        if self.folder is not None:
            return Path(self.folder)
        folders = (ROOT / source for source in self.sources)
        return next((folder for folder in folders if folder.is_dir()), None)


def split_source(source: str) -> tuple[str, str | None]:
    """The Hub repository of a source, and the commit that it is pinned to."""
    repository, _, commit = source.partition("@")
    return repository, commit or None


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSpec:
    """One table of assets/schedulers.toml."""

    key: str
    label: str
    class_name: str
    """diffusers' class; "" is the checkpoint's own."""
    family: str = "ddpm"
    """Of models that it draws with: a `scheduler_family` of ModelSpec."""
    a1111: str
    """Name of the sampler in AUTOMATIC1111's text."""
    a1111_schedule: str | None = None
    """Its schedule type there, such as "Karras"."""
    requires: str | None = None
    """Python package that the class needs besides diffusers."""
    calls_per_step: int = 1
    """How often it calls the model for each step asked for; 2 for methods of second order."""
    overrides: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Config values that differ from the checkpoint's own."""
    timesteps: str | None = None
    """Name of DeepFloyd IF's steps, such as "smart50", which are no even schedule."""

    @property
    def fixed_steps(self) -> int | None:
        """How many steps it always takes; None is as many as the request says."""
        return int(re.sub(r"\D", "", self.timesteps)) if self.timesteps else None
