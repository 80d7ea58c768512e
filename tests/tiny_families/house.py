"""A catalogue in which each row has a tiny checkpoint of its family, and small requests for it."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny_house import RecordingWatcher

from pipelines.drawing import draw
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from pipelines.safety import Flaw
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.ingredients import Start
from studio.request import GenerationRequest
from studio.settings import Settings
from studio.specs import ModelSpec
from tiny_families import kandinsky, transformers, unets, unets_from_pictures

SAVED_BY = {
    "sd14": unets.save_sd1,
    "sd15": unets.save_sd1,
    "sd2": unets.save_sd2,
    "sd21": unets.save_sd2,
    "sd2-base": unets.save_sd2_base,
    "sd21-base": unets.save_sd2_base,
    "sd-turbo": unets.save_sd_turbo,
    "sd15-lcm": partial(
        unets.save_with_lora, save=unets.save_sd1, name="pytorch_lora_weights.safetensors"
    ),
    "lcm": unets.save_lcm,
    "sdxl": unets.save_sdxl,
    "sdxl-turbo": unets.save_sdxl_turbo,
    "sdxl-lightning": partial(
        unets.save_with_lora,
        save=unets.save_sdxl,
        name="sdxl_lightning_4step_lora.safetensors",
    ),
    "sdxl-lcm": partial(
        unets.save_with_lora, save=unets.save_sdxl, name="pytorch_lora_weights.safetensors"
    ),
    "sdxl-refiner": unets.save_sdxl_refiner,
    "sd2-inpainting": unets_from_pictures.save_sd2_inpainting,
    "sd2-depth": unets_from_pictures.save_sd2_depth,
    "sd-x4-upscaler": unets_from_pictures.save_x4_upscaler,
    "kandinsky22": kandinsky.save_kandinsky,
}
"""What saves the tiny checkpoint of a row of assets/models.toml."""

PICTURE, MASK = (f"input-{digit * 64}" for digit in "12")
SIDE = 64

torch.set_num_threads(1)


@functools.cache
def family_folder(key: str) -> Path:
    """The folder of a row's tiny checkpoint, saved once per test run."""
    folder = Path(tempfile.mkdtemp(prefix="croquis-family-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return (SAVED_BY | transformers.SAVED_BY)[key](folder / key)


def family_settings(*keys: str, **changes: object) -> Settings:
    """Settings that name the folders of some rows, and never ask the network."""
    folders = {key: family_folder(key) for key in keys}
    return Settings(device="cpu", offline=True, cpu_threads=1, model_paths=folders, **changes)


def family_catalogue(settings: Settings, **changes: object) -> Catalogue:
    """The rows whose folders the settings name, but for smaller pictures and `changes`."""
    full = _whole_catalogue()
    given = {"min_side": SIDE, **changes}
    rows = {key: replace(full.get_model(key), **given) for key in settings.model_paths}
    return Catalogue(rows, full.schedulers, settings)


@functools.cache
def _whole_catalogue() -> Catalogue:
    return Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, Settings())


def family_manager(
    *keys: str, folders: Mapping[str, Path] | None = None, **changes: object
) -> PipelineManager:
    """A manager of some rows' tiny checkpoints, or of `folders` in their place.

    `changes` are values of the rows.
    """
    settings = family_settings(*keys)
    settings = replace(settings, model_paths={**settings.model_paths, **(folders or {})})
    return PipelineManager(family_catalogue(settings, **changes), Loader(settings), 10**9)


def row_of(key: str) -> ModelSpec:
    """A row of assets/models.toml, for pictures of 64 px too."""
    return family_catalogue(family_settings(key)).get_model(key)


def family_request(key: str, **changes: object) -> GenerationRequest:
    """A request with the row's defaults, 64 px, few steps, from a picture if it needs one."""
    row = row_of(key)
    values = {
        "prompt": "a red fox",
        "model": key,
        "scheduler": row.defaults.scheduler,
        "num_inference_steps": max(row.min_steps, min(4, row.max_steps)),
        "guidance_scale": row.defaults.guidance_scale,
        "width": SIDE,
        "height": SIDE,
        "seed": 7,
        "start": None if "text_to_image" in row.tasks else start_for(row.tasks[0]),
    }
    return GenerationRequest(**(values | changes))


def start_for(task: str, strength: float = 0.8) -> Start:
    """A start from the picture of `pictures`."""
    mask = MASK if task == "inpainting" else None
    margins = (8, 0, 16, 0) if task == "outpainting" else (0, 0, 0, 0)
    return Start(task=task, picture=PICTURE, mask=mask, margins=margins, strength=strength)


def pictures(*, turned: bool = False) -> Mapping[str, Image.Image]:
    """A picture of colours that run into each other, or another, and a mask of the right half."""
    across, down = np.meshgrid(np.linspace(0, 255, SIDE), np.linspace(0, 255, SIDE))
    colours = np.stack([across, down, 255 - across], axis=-1).astype(np.uint8)
    mask = np.where(across > 127, 255, 0).astype(np.uint8)
    picture = Image.fromarray(255 - colours.transpose(1, 0, 2) if turned else colours)
    return {PICTURE: picture, MASK: Image.fromarray(mask)}


def drawn_images(
    manager: PipelineManager,
    request: GenerationRequest,
    watcher: RecordingWatcher | None = None,
    images: Mapping[str, Image.Image] | None = None,
) -> list[Image.Image | Flaw]:
    """The pictures of a request, drawn as the engine does."""
    scheduler = family_catalogue(family_settings(request.model)).get_scheduler(request.scheduler)
    wanted, told = range(request.num_images), watcher or RecordingWatcher()
    with manager.borrow(request.model) as loaded:
        drawn = draw(loaded, scheduler, request, wanted, told, images or pictures())
        return [one.image for one in drawn]


def draw_family(
    manager: PipelineManager,
    request: GenerationRequest,
    watcher: RecordingWatcher | None = None,
    images: Mapping[str, Image.Image] | None = None,
) -> list[np.ndarray]:
    """The same as pixels (H, W, 3), 0 to 255."""
    return [np.asarray(image) for image in drawn_images(manager, request, watcher, images)]
