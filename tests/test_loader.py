"""Loader: safetensors only, from a folder or the Hub, and clear words when it cannot be had."""

from __future__ import annotations

import io
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_recipes import make_recipe
from tiny_house import (
    RecordingWatcher,
    checkpoint,
    tiny_catalogue,
    tiny_request,
    tiny_settings,
)

from pipelines.drawing import draw
from pipelines.hub import size_text, weight_files
from pipelines.loader import LoadedModel, Loader
from studio.errors import ModelUnavailable, OutOfMemory
from studio.infotext import parse_infotext
from studio.plans import Machine
from studio.recipes import encode_png
from studio.settings import Settings
from studio.specs import ModelSpec


def ignore(text: str) -> None:
    """Take a progress message and do nothing."""


def find_and_load(settings: Settings, key: str) -> LoadedModel:
    loader = Loader(settings)
    return loader.load(loader.find(tiny_catalogue(settings).get_model(key), ignore))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint("mini"), tmp_path / "secret-folder"))


def test_a_folder_is_loaded_with_its_own_scheduler_config() -> None:
    loaded = find_and_load(tiny_settings(), "mini")
    assert type(loaded.pipeline).__name__ == "StableDiffusionPipeline"
    assert loaded.scheduler_config["prediction_type"] == "v_prediction"
    assert loaded.scheduler_config["beta_schedule"] == "scaled_linear"
    assert not loaded.pipeline.unet.training


def test_the_size_is_known_before_loading_and_is_the_real_one() -> None:
    loader = Loader(tiny_settings())
    found = loader.find(tiny_catalogue().get_model("mini"), ignore)
    loaded = loader.load(found)
    parts = (loaded.pipeline.unet, loaded.pipeline.vae, loaded.pipeline.text_encoder)
    weights = sum(parameter.nbytes for part in parts for parameter in part.parameters())
    assert found.nbytes == weights
    assert weights <= loaded.nbytes < 1.01 * weights


def test_the_revision_of_a_folder_follows_its_weights(folder: Path) -> None:
    settings = tiny_settings({"copy": folder})
    spec, loader = tiny_catalogue(settings).get_model("copy"), Loader(settings)
    first = loader.find(spec, ignore).revision
    assert re.fullmatch("local@[0-9a-f]{12}", first)
    assert loader.find(spec, ignore).revision == first
    weights = "unet/diffusion_pytorch_model.safetensors"
    shutil.copy(checkpoint("third") / weights, folder / weights)
    assert loader.find(spec, ignore).revision != first


def test_a_picture_names_the_weights_and_never_their_folder(folder: Path) -> None:
    settings = tiny_settings({"copy": folder})
    found = Loader(settings).find(tiny_catalogue(settings).get_model("copy"), ignore)
    recipe = replace(make_recipe(), revision=found.revision)
    png = encode_png(Image.new("RGB", (8, 8)), recipe)
    pairs = parse_infotext(Image.open(io.BytesIO(png)).info["parameters"]).pairs
    assert pairs["Model hash"] == found.revision.removeprefix("local@")[:10]
    assert folder.name.encode() not in png


def test_half_precision_files_are_preferred_where_the_row_says_so(tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(checkpoint("mini"), dtype=torch.float16)
    pipeline.save_pretrained(tmp_path / "half", variant="fp16")
    settings = tiny_settings({"half": tmp_path / "half"})
    loader = Loader(settings)
    found = loader.find(tiny_catalogue(settings).get_model("half"), ignore)
    assert found.variant == "fp16"
    assert loader.load(found).pipeline.unet.dtype == torch.float32


def test_weight_files_leaves_other_variants_out(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    for name in ("model.safetensors", "model.fp16.safetensors", "model.non_ema.safetensors"):
        (tmp_path / "unet" / name).touch()
    (tmp_path / "768-v-ema.safetensors").touch()
    assert [path.name for path in weight_files(tmp_path, None)] == ["model.safetensors"]
    assert [path.name for path in weight_files(tmp_path, "fp16")] == ["model.fp16.safetensors"]


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_pickle_weights_are_refused(folder: Path, part: str) -> None:
    for weights in (folder / part).glob("*.safetensors"):
        torch.save({}, weights.with_suffix(".bin"))
        weights.unlink()
    with pytest.raises(ModelUnavailable, match=f"{part}” holds only pickle.*safetensors only"):
        find_and_load(tiny_settings({"copy": folder}), "copy")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="“nowhere”, which does not exist.*CROQUIS_MODEL"):
        find_and_load(tiny_settings({"copy": tmp_path / "nowhere"}), "copy")


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="model_index.json"):
        find_and_load(tiny_settings({"copy": tmp_path}), "copy")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("unet/diffusion_pytorch_model.safetensors", b"not weights at all"),
        ("vae/diffusion_pytorch_model.safetensors", None),
        ("unet/config.json", b"{"),
        ("model_index.json", b"{}"),
        ("tokenizer/tokenizer.json", b"{"),
    ],
)
def test_a_damaged_checkpoint_is_a_clear_error(
    folder: Path, name: str, content: bytes | None
) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(ModelUnavailable, match="missing or damaged"):
        find_and_load(tiny_settings({"copy": folder}), "copy")


@pytest.fixture
def hub_row() -> ModelSpec:
    spec = tiny_catalogue().get_model("sd2")
    return replace(spec, key="hub", title="Hub model", sources=("gone/first", "gone/mirror"))


@pytest.mark.parametrize("offline", [True, False])
def test_no_connection_names_the_three_causes_within_seconds(
    hub_row: ModelSpec, offline: bool
) -> None:
    loader = Loader(replace(tiny_settings(), offline=offline))
    started = time.monotonic()
    with pytest.raises(ModelUnavailable) as caught:
        loader.find(hub_row, ignore)
    text = str(caught.value)
    assert time.monotonic() - started < 5
    assert all(cause in text for cause in ("removed", "gated", "no connection"))
    assert "gone/first: no connection; gone/mirror: no connection" in text


@pytest.mark.parametrize(("nbytes", "text"), [(2.58e9, "2.6 GB"), (3.1e7, "31 MB")])
def test_sizes_are_written_for_people(nbytes: float, text: str) -> None:
    assert size_text(nbytes) == text


def test_layers_that_wait_elsewhere_draw_the_same(tmp_path: Path) -> None:
    loader = Loader(tiny_settings())
    checkpoint = loader.find(tiny_catalogue().get_model("mini"), ignore)
    drawn = []
    for holding in ("full", "group"):
        loaded = loader.load(replace(checkpoint, holding=holding))
        scheduler = tiny_catalogue().get_scheduler("euler")
        [result] = draw(loaded, scheduler, tiny_request(), [0], RecordingWatcher())
        drawn.append(np.asarray(result.image))
    assert np.array_equal(*drawn)


def test_what_no_memory_holds_is_refused_before_it_is_loaded() -> None:
    settings = tiny_settings()
    loader = Loader(settings)
    small = Machine(kind="cpu", device_gb=1e-6, ram_gb=1e-6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.holding.machine_of", lambda device: small)
        with pytest.raises(OutOfMemory, match="too large for this machine"):
            loader.find(tiny_catalogue().get_model("mini"), ignore)
    assert loader.find(tiny_catalogue().get_model("mini"), ignore).holding == "full"
