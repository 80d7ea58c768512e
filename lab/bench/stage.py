"""What a backend gives to the parts: models, requests, and the bare script beside them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from PIL import Image

from lab.bench.house import House, open_house
from pipelines.device import pick_device, pick_dtype, tune_threads
from pipelines.loader import LoadedModel, Loader
from pipelines.stepping import Denoise
from studio.catalogue import Catalogue
from studio.request import GenerationRequest
from studio.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where the parts play."""

    title: str
    """Of the model and its size, as in the table."""
    settings: Settings
    catalogue: Catalogue
    request: GenerationRequest
    """One picture, as the model draws best."""
    other: GenerationRequest
    """The same of another model, to switch to."""
    denoise: Denoise | None = None
    """In the place of what the settings choose."""
    prepare: Callable[[Any], None] | None = None
    """Done to the bare script's pipeline once it is loaded."""

    @property
    def device(self) -> str:
        return pick_device(self.settings)

    @property
    def dtype(self) -> torch.dtype:
        return pick_dtype(self.device, self.settings)

    @property
    def folder(self) -> Path:
        """The checkpoint of `request`."""
        folder = self.catalogue.get_model(self.request.model).local_path(self.settings)
        assert folder is not None
        return folder

    def open(self, **changes: Any) -> AbstractContextManager[House]:
        """A house; `changes` are settings."""
        return open_house(replace(self.settings, **changes), self.catalogue, self.denoise)


class BareScript:
    """The script of the model's card: `from_pretrained`, `to`, and one call for each picture."""

    def __init__(self, stage: Stage) -> None:
        tune_threads(stage.settings)
        spec = stage.catalogue.get_model(stage.request.model)
        pipeline_class = getattr(diffusers, spec.pipeline_class)
        started = time.perf_counter()
        self._pipeline = pipeline_class.from_pretrained(
            stage.folder, dtype=stage.dtype, local_files_only=True
        ).to(stage.device)
        synchronize()
        self.load_s = time.perf_counter() - started
        self._pipeline.set_progress_bar_config(disable=True)
        if stage.prepare is not None:
            stage.prepare(self._pipeline)

    def draw(self, request: GenerationRequest) -> Image.Image:
        """Draw with the checkpoint's own scheduler."""
        return draw_bare(self._pipeline, request)

    def time(self, request: GenerationRequest) -> float:
        """Seconds of one picture."""
        started = time.perf_counter()
        self.draw(request)
        return time.perf_counter() - started


def draw_bare(pipeline: Any, request: GenerationRequest) -> Image.Image:
    """Call diffusers' pipeline with the settings of a request."""
    with torch.no_grad():
        return pipeline(
            request.prompt,
            negative_prompt=request.negative_prompt,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            width=request.width,
            height=request.height,
            generator=torch.Generator("cpu").manual_seed(request.seed),
        ).images[0]


def load_as_the_app_does(stage: Stage) -> LoadedModel:
    """The model of `request` with the app's number and memory format, to be called directly."""
    tune_threads(stage.settings)
    loader = Loader(stage.settings)
    spec = stage.catalogue.get_model(stage.request.model)
    loaded = loader.load(loader.find(spec, lambda text: None))
    loaded.pipeline.set_progress_bar_config(disable=True)
    return loaded


def synchronize() -> None:
    """Wait until the GPU, if there is one, has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
