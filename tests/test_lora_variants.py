"""Rows that are another row's checkpoint with a LoRA of the Hub: drawn with it, or refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_studio import make_catalogue
from tiny_families.house import SIDE, family_folder
from tiny_house import RecordingWatcher
from torch import nn

from pipelines.drawing import draw
from pipelines.loader import LoadedModel, Loader
from studio.errors import ModelUnavailable
from studio.settings import Settings

CATALOGUE = make_catalogue()
BASES = {"sdxl-lightning": "sdxl", "sdxl-lcm": "sdxl", "sd15-lcm": "sd15"}
every_variant = pytest.mark.parametrize("key", BASES)


def test_these_are_all() -> None:
    assert {row.key for row in CATALOGUE.models.values() if row.hub_lora} == set(BASES)


@every_variant
def test_it_draws_with_its_lora_in_its_own_steps(tmp_path: Path, key: str) -> None:
    plain, variant = (load(tmp_path, key, with_lora=on) for on in (False, True))
    total = CATALOGUE.get_model(key).defaults.num_inference_steps
    without, steps = draw_one(plain, key)
    with_it, steps = draw_one(variant, key)
    assert steps == total
    assert (without != with_it).any()
    assert variant.revision != plain.revision
    assert not any("lora" in name for name, _ in variant.pipeline.unet.named_parameters())


@every_variant
def test_a_lora_for_another_model_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ModelUnavailable, match="missing or damaged"):
        load(tmp_path, key, with_lora=True, width=3)


def load(folder: Path, key: str, *, with_lora: bool, width: int = 0) -> LoadedModel:
    """The variant on a tiny checkpoint of its base, or that checkpoint alone.

    Args:
        width: of the LoRA's layers, where they are to fit no model.
    """
    row = CATALOGUE.get_model(key)
    assert row.hub_lora is not None
    place = folder / ("with" if with_lora else "without")
    shutil.copytree(family_folder(BASES[key]), place)
    if with_lora:
        save_lora(family_folder(BASES[key]), place / Path(row.hub_lora).name, width)
    loader = Loader(Settings(device="cpu", offline=True, model_paths={key: place}))
    row = row if with_lora else replace(row, hub_lora=None)
    return loader.load(loader.find(row, lambda text: None))


def save_lora(checkpoint: Path, file: Path, width: int) -> None:
    """Save a LoRA for the U-Net's attention under kohya's names, as those on the Hub are."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet")
    dice, tensors = torch.Generator().manual_seed(0), {}
    for name, part in unet.named_modules():
        if isinstance(part, nn.Linear) and ".attn" in name:
            rows, columns = part.weight.shape
            stem = f"lora_unet_{name.replace('.', '_')}"
            tensors[f"{stem}.lora_down.weight"] = torch.randn(2, width or columns, generator=dice)
            tensors[f"{stem}.lora_up.weight"] = torch.randn(rows, 2, generator=dice)
            tensors[f"{stem}.alpha"] = torch.tensor(2.0)
    save_file(tensors, file)


def draw_one(loaded: LoadedModel, key: str) -> tuple[np.ndarray, int]:
    """A picture of 64 px with the row's defaults, and the steps that it took."""
    request = replace(CATALOGUE.default_request(key, "a fox"), width=SIDE, height=SIDE, seed=7)
    watcher = RecordingWatcher()
    scheduler = CATALOGUE.get_scheduler(request.scheduler)
    [drawn] = draw(loaded, scheduler, request, [0], watcher)
    return np.asarray(drawn.image), watcher.steps[-1][0]
