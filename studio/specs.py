"""What Croquis knows of a model and of a scheduler: one frozen row for each TOML table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from studio.settings import ROOT, Settings

LORA_FILE = "pytorch_lora_weights.safetensors"


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
    """One table of assets/models.toml."""

    key: str
    title: str
    summary: str
    """What it is good at, in one line."""
    sources: tuple[str, ...]
    """Hub repositories or folders of this repository, best first.

    "owner/name@commit" is a Hub repository at that commit, "owner/name" at its newest.
    """
    pipeline_class: str
    """diffusers' class that draws with it."""
    licence: str
    licence_url: str
    commercial_use: str
    """"yes", "no" or "conditional"."""
    lora: str | None = None
    """Folder of this repository with a LoRA in diffusers' format, which is fused into the weights
    when they are loaded: a variant of another model without a second checkpoint."""
    variant: str | None = None
    """Weight files to prefer, such as "fp16"."""
    download_gb: float
    memory_gb: float
    """Memory that the loaded weights take, about."""
    schedulers: tuple[str, ...]
    """Keys of assets/schedulers.toml that work with it."""
    multiple_of: int
    min_side: int
    max_side: int
    """Limits of width and height in px, as drawn (before upscaling)."""
    max_images: int
    upscale_choices: tuple[int, ...]
    tiling_choices: tuple[str, ...] = ("none",)
    """What of `studio.request.TILINGS` it can do; U-Nets can do all, transformers none."""
    defaults: Defaults

    @property
    def lora_file(self) -> Path | None:
        """The weights of `lora`; safetensors, under diffusers' own name."""
        return ROOT / self.lora / LORA_FILE if self.lora else None

    def local_path(self, settings: Settings) -> Path | None:
        """The folder to load from: the host's own, or a source inside this repository."""
        if self.key in settings.model_paths:
            return settings.model_paths[self.key]
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
    """diffusers' class."""
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
