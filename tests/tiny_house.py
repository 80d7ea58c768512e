"""A catalogue of tiny checkpoints, and what the tests of the pipelines build upon it."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from tiny_checkpoint import save_tiny_checkpoint

from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.errors import Cancelled
from studio.request import GenerationRequest
from studio.settings import Settings

VAE_BLOCKS = {"sd2": 4, "mini": 3, "third": 3}
"""The tiny models and their VAEs: factor 8 as in SD-2, factor 4 as in the built-in model."""

torch.set_num_threads(1)


@functools.cache
def checkpoint(key: str) -> Path:
    """The folder of a tiny model, saved once per test run."""
    folder = Path(tempfile.mkdtemp(prefix="croquis-tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    seed = list(VAE_BLOCKS).index(key)
    return save_tiny_checkpoint(folder / key, seed=seed, vae_blocks=VAE_BLOCKS[key])


def tiny_settings(folders: Mapping[str, Path] | None = None, **changes: object) -> Settings:
    """Settings that name the tiny models' folders, and `folders`, and never ask the network."""
    places = {key: checkpoint(key) for key in VAE_BLOCKS} | dict(folders or {})
    return Settings(device="cpu", offline=True, model_paths=places, **changes)


def tiny_catalogue(settings: Settings | None = None) -> Catalogue:
    """SD-2's row, once for every folder in the settings."""
    settings = settings or tiny_settings()
    full = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, Settings())
    row = replace(full.get_model("sd2"), min_side=64, max_images=8, upscale_choices=(1, 4))
    keys = settings.model_paths
    models = {key: replace(row, key=key, title=f"Tiny {key}") for key in keys}
    return Catalogue(models, full.schedulers, settings)


def tiny_manager(
    settings: Settings | None = None,
    budget_bytes: int = 10**9,
    on_state: Callable[[str, str], None] = lambda key, state: None,
) -> PipelineManager:
    """A manager of the models in the settings."""
    settings = settings or tiny_settings()
    return PipelineManager(tiny_catalogue(settings), Loader(settings), budget_bytes, on_state)


def tiny_request(**changes: object) -> GenerationRequest:
    """A small request: 64 px, 4 steps."""
    values = {
        "prompt": "a red fox",
        "model": "mini",
        "scheduler": "euler",
        "num_inference_steps": 4,
        "guidance_scale": 5.0,
        "width": 64,
        "height": 64,
        "seed": 7,
    }
    return GenerationRequest(**(values | changes))


@dataclass
class RecordingWatcher:
    """Records what a drawing reports; says "cancelled" once `cancel_at` steps were reported."""

    cancel_at: int | None = None
    steps: list[tuple[int, int, int]] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def is_cancelled(self) -> bool:
        return self.cancel_at is not None and len(self.steps) > self.cancel_at

    def is_watched(self) -> bool:
        return True

    def on_step(
        self, step: int, total_steps: int, image_index: int, preview: bytes | None, batch: int
    ) -> None:
        self.steps.append((step, total_steps, image_index))
        self.batches.append(batch)
        if preview is not None:
            self.previews.append(preview)

    def on_message(self, text: str) -> None:
        self.messages.append(text)
        if self.cancel_at is not None and len(self.messages) > self.cancel_at:
            raise Cancelled("Stopped.")

    def add_note(self, text: str) -> None:
        self.notes.append(text)
