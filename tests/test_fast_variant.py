"""A variant of a model by a LoRA: fused exactly, kept apart, and refused when it does not fit."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_house import RecordingWatcher, checkpoint, tiny_catalogue, tiny_request, tiny_settings
from torch import nn

from pipelines.drawing import draw
from pipelines.loader import LoadedModel, Loader
from pipelines.manager import PipelineManager
from pipelines.schedulers import build_scheduler
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.errors import ModelUnavailable
from studio.settings import Settings
from studio.specs import LORA_FILE
from ui.controls import help_of

SETTINGS = tiny_settings({"fast": checkpoint("mini")})


def matrices(loaded: LoadedModel) -> dict[str, nn.Module]:
    parts = loaded.pipeline.unet.named_modules()
    return {name: part for name, part in parts if isinstance(part, (nn.Linear, nn.Conv2d))}


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    loader = Loader(SETTINGS)
    return loader.load(loader.find(tiny_catalogue(SETTINGS).get_model("mini"), lambda text: None))


@pytest.fixture(scope="module")
def lora(base: LoadedModel) -> dict[str, torch.Tensor]:
    """A LoRA of random weights for every matrix and convolution; small ones have a lower rank."""
    dice, tensors = torch.Generator().manual_seed(0), {}
    for name, part in matrices(base).items():
        rows, *columns = part.weight.shape
        rank = min(6, *part.weight.flatten(1).shape)
        down = torch.randn(rank, *columns, generator=dice) / 20
        up = torch.randn(rows, rank, *[1] * (part.weight.ndim - 2), generator=dice) / 20
        tensors |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
    return {name: tensor.half() for name, tensor in tensors.items()}


def write(folder: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / LORA_FILE)
    return folder


def house_with(folder: Path) -> tuple[Catalogue, PipelineManager]:
    """Tiny models, of which "fast" is "mini" with the LoRA in a folder."""
    catalogue = tiny_catalogue(SETTINGS)
    fast = replace(catalogue.models["fast"], fused_lora=str(folder))
    catalogue = Catalogue(catalogue.models | {"fast": fast}, catalogue.schedulers, SETTINGS)
    return catalogue, PipelineManager(catalogue, Loader(SETTINGS), 10**9)


def picture(manager: PipelineManager, model: str) -> bytes:
    request = tiny_request(model=model, scheduler="euler_trailing", guidance_scale=1.0)
    scheduler = tiny_catalogue().get_scheduler(request.scheduler)
    with manager.borrow(model) as loaded:
        [drawn] = draw(loaded, scheduler, request, [0], RecordingWatcher())
    return drawn.image.tobytes()


def test_the_weights_are_the_sum_and_nothing_is_left_behind(
    tmp_path: Path, base: LoadedModel, lora: dict[str, torch.Tensor]
) -> None:
    _, manager = house_with(write(tmp_path, lora))
    own = matrices(base)
    with manager.borrow("fast") as fast:
        for name, part in matrices(fast).items():
            down, up = (lora[f"unet.{name}.lora_{side}.weight"].float() for side in "AB")
            change = (up.flatten(1) @ down.flatten(1)).reshape(part.weight.shape)
            torch.testing.assert_close(part.weight, own[name].weight + change)
        assert [type(part) for part in fast.pipeline.unet.modules()] == [
            type(part) for part in base.pipeline.unet.modules()
        ]
        assert fast.nbytes == base.nbytes


def test_both_draw_the_same_bits_whatever_is_loaded_between(
    tmp_path: Path, lora: dict[str, torch.Tensor]
) -> None:
    _, manager = house_with(write(tmp_path, lora))
    plain, fast = picture(manager, "mini"), picture(manager, "fast")
    assert plain != fast
    assert (picture(manager, "mini"), picture(manager, "fast")) == (plain, fast)
    assert manager.evict("mini") and picture(manager, "fast") == fast
    assert manager.evict("fast") and picture(manager, "mini") == plain
    assert picture(manager, "fast") == fast


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.replace("down_blocks.0", "down_blocks.7"),
        lambda name: name.replace("unet.", "other."),
        lambda name: name.replace("conv_in", "conv_inner"),
    ],
    ids=["a part", "all", "one layer"],
)
def test_a_lora_of_another_model_is_refused(
    tmp_path: Path, lora: dict[str, torch.Tensor], rename: object
) -> None:
    foreign = {rename(name): tensor for name, tensor in lora.items()}  # type: ignore[operator]
    _, manager = house_with(write(tmp_path, foreign))
    with pytest.raises(ModelUnavailable, match="Tiny fast could not be loaded"):
        picture(manager, "fast")
    assert picture(manager, "mini")


def test_damaged_missing_and_pickled_weights_are_refused(
    tmp_path: Path, lora: dict[str, torch.Tensor]
) -> None:
    catalogue, manager = house_with(tmp_path)
    assert catalogue.availability("fast").state == "missing"
    with pytest.raises(ModelUnavailable):
        picture(manager, "fast")
    torch.save(lora, tmp_path / LORA_FILE.replace(".safetensors", ".bin"))
    with pytest.raises(ModelUnavailable):
        picture(manager, "fast")
    whole = (write(tmp_path, lora) / LORA_FILE).read_bytes()
    assert catalogue.availability("fast").state == "local"
    (tmp_path / LORA_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelUnavailable, match=f"“mini” or “{tmp_path.name}” are missing"):
        picture(manager, "fast")
    halved = {name: tensor[:, :2] for name, tensor in lora.items()}
    write(tmp_path, halved)
    with pytest.raises(ModelUnavailable):
        picture(manager, "fast")
    write(tmp_path, lora)
    assert picture(manager, "fast")


def test_the_revision_names_the_lora_too(tmp_path: Path, lora: dict[str, torch.Tensor]) -> None:
    catalogue, _ = house_with(write(tmp_path, lora))
    loader = Loader(SETTINGS)

    def revision(model: str) -> str:
        return loader.find(catalogue.get_model(model), lambda text: None).revision

    plain, fast = revision("mini"), revision("fast")
    assert plain != fast
    beside = checkpoint("mini") / "fast"
    beside.mkdir()
    write(beside, lora)
    assert revision("mini") == plain
    (beside / LORA_FILE).unlink()
    beside.rmdir()
    write(tmp_path, {name: 2 * tensor for name, tensor in lora.items()})
    assert revision("fast") not in (plain, fast)


@pytest.mark.parametrize("key", ["euler_trailing", "ddim_trailing"])
def test_trailing_steps_begin_at_pure_noise(base: LoadedModel, key: str) -> None:
    built = build_scheduler(tiny_catalogue().get_scheduler(key), base.scheduler_config)
    built.set_timesteps(4)
    assert [int(step) for step in built.timesteps] == [999, 749, 499, 249]


def test_the_page_says_that_leaving_out_has_no_effect() -> None:
    catalogue = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, Settings())
    own = catalogue.get_model("builtin")
    fast = replace(own, defaults=replace(own.defaults, guidance_scale=1.0))
    assert "as this model sets it" in help_of(catalogue, fast)["negative_prompt"]
    assert "as this model sets it" not in help_of(catalogue, own)["negative_prompt"]


def test_a_lora_of_the_hub_is_fused_as_well(
    tmp_path: Path, base: LoadedModel, lora: dict[str, torch.Tensor]
) -> None:
    """The host's own folder of such a row has the LoRA beside the checkpoint."""
    folder = tmp_path / "both"
    shutil.copytree(checkpoint("mini"), folder)
    write(folder, lora)
    loader = Loader(tiny_settings({"fast": folder}))
    row = replace(tiny_catalogue(SETTINGS).models["fast"], hub_lora=f"owner/name/{LORA_FILE}")
    found = loader.find(row, lambda text: None)
    assert found.lora == folder / LORA_FILE
    assert found.revision != base.revision
    own, fast = matrices(base), matrices(loader.load(found))
    assert all((part.weight != own[name].weight).any() for name, part in fast.items())


def test_a_lora_of_the_hub_that_cannot_be_had_is_named() -> None:
    row = replace(tiny_catalogue(SETTINGS).models["fast"], hub_lora=f"owner/name/{LORA_FILE}")
    with pytest.raises(ModelUnavailable, match="owner/name"):
        Loader(SETTINGS).find(row, lambda text: None)
