"""Tiny checkpoints of models of several stages, the app's own loader, and requests for them."""

from __future__ import annotations

import atexit
import functools
import gc
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny_house import RecordingWatcher
from transformers import T5EncoderModel

from pipelines.drawing import draw
from pipelines.encoder import PromptEncoder
from pipelines.families import karlo
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from pipelines.safety import Flaw
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.ingredients import Start
from studio.request import GenerationRequest
from studio.settings import Settings
from tiny_families.cascades import (
    IF_SIDES,
    save_tiny_if,
    save_tiny_karlo,
    save_tiny_karlo_variations,
    save_tiny_vq_diffusion,
)
from tiny_families.unets_from_pictures import save_x4_upscaler

SAVED_BY: Mapping[str, Callable[[Path], Path]] = {
    "if-1": functools.partial(save_tiny_if, stage=1),
    "if-2": functools.partial(save_tiny_if, stage=2),
    "sd-x4-upscaler": save_x4_upscaler,
    "karlo": save_tiny_karlo,
    "karlo-variations": save_tiny_karlo_variations,
    "vq-diffusion": save_tiny_vq_diffusion,
}
SIDES = {
    "if-1": IF_SIDES[1],
    "if-2": IF_SIDES[2],
    "karlo": 32,
    "karlo-variations": 32,
    "vq-diffusion": 16,
}
"""px that are drawn; Karlo and VQ-Diffusion draw theirs whatever a request says."""
STEPS = 3
TOTALS = {
    "if-1": STEPS,
    "if-2": STEPS,
    "karlo": 2 * STEPS + karlo.ENLARGING_STEPS,
    "karlo-variations": STEPS + karlo.ENLARGING_STEPS,
    "vq-diffusion": STEPS,
}
"""How many steps a picture takes when three are asked for."""
TASKS = {"if-2": "upscaling", "sd-x4-upscaler": "upscaling", "karlo-variations": "image_to_image"}
"""Of the models that start from a picture."""
PICTURE = "input-" + "1" * 64

torch.set_num_threads(1)


@functools.cache
def folder_of(key: str) -> Path:
    """The folder of a tiny checkpoint, saved once per test run."""
    folder = Path(tempfile.mkdtemp(prefix="croquis-cascade-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return SAVED_BY[key](folder / key)


def make_settings(folders: Mapping[str, Path] | None = None, **changes: object) -> Settings:
    """Settings that name the folders of all tiny checkpoints, or others in their place."""
    places = {key: folder_of(key) for key in SAVED_BY} | dict(folders or {})
    return Settings(device="cpu", offline=True, cpu_threads=1, model_paths=places, **changes)


def make_catalogue(settings: Settings) -> Catalogue:
    """The rows of assets/models.toml; stage two is half as large."""
    full = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings)
    rows = {key: full.get_model(key) for key in SAVED_BY}
    side = IF_SIDES[2]
    rows["if-2"] = replace(rows["if-2"], min_side=side, max_side=side, multiple_of=side)
    return Catalogue(rows, full.schedulers, settings)


def make_manager(
    folders: Mapping[str, Path] | None = None, budget_bytes: int = 10**9
) -> PipelineManager:
    settings = make_settings(folders)
    return PipelineManager(make_catalogue(settings), Loader(settings), budget_bytes)


def make_request(key: str, **changes: object) -> GenerationRequest:
    """Three steps of a model, from a picture if it enlarges."""
    start = Start(task=TASKS[key], picture=PICTURE) if key in TASKS else None
    values: dict[str, object] = {
        "prompt": "a red fox",
        "model": key,
        "scheduler": "ddpm" if key.startswith("if") else "own",
        "num_inference_steps": STEPS,
        "guidance_scale": 5.0,
        "width": max(64, SIDES.get(key, 0)),
        "height": max(64, SIDES.get(key, 0)),
        "seed": 7,
        "start": start,
    }
    return GenerationRequest(**(values | changes))  # type: ignore[arg-type]


def small_picture() -> Image.Image:
    """Colours that run into each other, 64 px."""
    across, down = np.meshgrid(np.linspace(0, 255, 64), np.linspace(0, 255, 64))
    return Image.fromarray(np.stack([across, down, 255 - across], axis=-1).astype(np.uint8))


def draw_all(
    manager: PipelineManager,
    request: GenerationRequest,
    watcher: RecordingWatcher | None = None,
    prompts: PromptEncoder | None = None,
    picture: Image.Image | None = None,
) -> list[Image.Image | Flaw]:
    """Draw a request as the engine does: the text encoder first, where there is one."""
    catalogue = make_catalogue(make_settings())
    reader = catalogue.get_model(request.model).text_encoder
    prompts = prompts or encoder_for(manager)
    said = prompts.encode(reader, request, lambda text: None) if reader else None
    scheduler = catalogue.get_scheduler(request.scheduler)
    watcher = watcher or RecordingWatcher()
    indices, images = range(request.num_images), {PICTURE: picture or small_picture()}
    with manager.borrow(request.model) as loaded:
        drawn = draw(loaded, scheduler, request, indices, watcher, images, None, said)
        return [one.image for one in drawn]


@functools.cache
def encoder_for(manager: PipelineManager) -> PromptEncoder:
    """One that remembers over several requests, as the engine's does."""
    return PromptEncoder(manager)


def pixels_of(manager: PipelineManager, request: GenerationRequest) -> list[np.ndarray]:
    return [np.asarray(image) for image in draw_all(manager, request)]


def copy_of(key: str, place: Path) -> Path:
    return Path(shutil.copytree(folder_of(key), place / key))


def encoders_in_memory() -> int:
    """How many text encoders of IF there are, borrowed or forgotten."""
    return sum(type(one) is T5EncoderModel for one in gc.get_objects())
