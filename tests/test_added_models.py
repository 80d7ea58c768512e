"""Models typed in by a host: a row made from what a checkpoint says of itself, kept, drawn with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import HubServer
from small_studio import ANNA, make_catalogue, open_studio, wait_for_end
from tiny_families import unets
from tiny_house import checkpoint

from pipelines.engine import Engine
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from studio.added_models import key_of, look_up, make_row
from studio.errors import CroquisError, InvalidRequest, ModelUnavailable
from studio.jobs import JobState
from studio.settings import Settings
from studio.specs import ModelSpec

CARD = """---
license: other
license_name: paper-1
license_link: https://example.org/paper
---
A card.
"""
ASK = """
import json, sys
from pathlib import Path
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.errors import CroquisError
from studio.settings import Settings
from studio.added_models import look_up, make_row

settings = Settings(**json.loads(sys.argv[1]))
models = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings).models
try:
    row = make_row(*look_up(sys.argv[2], settings), models)
    told = {name: getattr(row, name) for name in ("key", "sources", "licence", "gated", "family")}
    print(json.dumps(told | {"download_gb": row.download_gb}))
except CroquisError as exc:
    print(json.dumps({"error": str(exc)}))
"""


def row_of(folder: Path) -> ModelSpec:
    settings = Settings(device="cpu", offline=True)
    return make_row(*look_up(str(folder), settings), make_catalogue().models)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("hub")
    for name in ("sketch", "shut", "old"):
        shutil.copytree(checkpoint("mini"), root / "tiny" / name)
    (root / "tiny/sketch/README.md").write_text(CARD)
    (root / "tiny/shut/.hub.json").write_text('{"gated": true}')
    for weights in [*(root / "tiny/old").rglob("*.safetensors")]:
        weights.rename(weights.with_suffix(".bin"))
    server = HubServer(0, root, tmp_path_factory.mktemp("log") / "asked.txt")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.url
    server.shutdown()


def ask_hub(hub: str, home: Path, typed: str, **settings: object) -> dict[str, object]:
    """In a fresh process: the Hub's client reads its environment when it is imported."""
    environ = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(settings), typed],
        cwd=Path(__file__).parent.parent,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_class_and_width_choose_the_family(tmp_path: Path) -> None:
    first = row_of(unets.save_sd1(tmp_path / "mine" / "sd1"))
    assert (first.pipeline_class, first.backend) == ("StableDiffusionPipeline", "diffusers")
    assert row_of(unets.save_sdxl(tmp_path / "mine" / "sdxl")).base == "sdxl"
    turbo = row_of(unets.save_sd_turbo(tmp_path / "my-sd-turbo"))
    assert turbo.defaults.num_inference_steps <= 4
    assert turbo.guidance == make_catalogue().get_model("sd-turbo").guidance
    lcm = row_of(unets.save_lcm(tmp_path / "lcm"))
    assert not lcm.negative_prompt
    for row in (first, turbo, lcm):
        assert row.is_added
        assert row.folder
        assert {"defaults", "schedulers"} <= set(row.uncertain)


def test_the_picture_s_side_is_that_of_the_unet(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint("mini"), tmp_path / "small"))
    assert row_of(folder).defaults.width == 64  # 16 latents, a VAE of factor 4


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("", "Type a model as owner/name"),
        ("just-a-name", "Type a model as owner/name"),
        ("../../etc", "Type a model as owner/name"),
        ("a/b/c", "Type a model as owner/name"),
        ("/no/such/folder", "no folder"),
    ],
)
def test_what_is_no_model_is_told(typed: str, told: str) -> None:
    with pytest.raises(CroquisError, match=told):
        look_up(typed, Settings(offline=True))


def test_a_class_that_nobody_draws_with_is_named_with_the_known_ones(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint("mini"), tmp_path / "odd"))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "OddPipeline"}))
    with pytest.raises(ModelUnavailable, match="OddPipeline.*StableDiffusionPipeline"):
        row_of(folder)
    (folder / "model_index.json").write_text("no json")
    with pytest.raises(ModelUnavailable, match="no checkpoint in diffusers' layout"):
        row_of(folder)


def test_a_typed_folder_draws_is_remembered_and_can_be_forgotten(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint("mini"), tmp_path / "my-sketches"))
    data = tmp_path / "data"
    with open_studio(data, device="cpu", offline=True) as studio:
        key = studio.add_model(str(folder))
        assert studio.add_model(str(folder)) == key
        manager = PipelineManager(studio.catalogue, Loader(studio.settings), 10**9)
        engine = Engine(studio, manager, studio.settings)
        engine.start()
        request = replace(studio.default_request(key, "a cat"), num_inference_steps=2, upscale=1)
        job = wait_for_end(studio, studio.submit(request, ANNA))
        engine.close()
        assert job.state is JobState.DONE, job.error
    settings = Settings(data_dir=data)
    catalogue = make_catalogue(settings)
    assert catalogue.get_model(key).folder == str(folder)
    catalogue.forget(key)
    assert key not in make_catalogue(settings).models
    with pytest.raises(InvalidRequest):
        catalogue.forget("builtin")


def test_a_damaged_list_costs_only_the_added_models(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_text('{"x": {"key": 1')
    assert "builtin" in make_catalogue(Settings(data_dir=tmp_path)).models
    assert (tmp_path / "models.json").read_text() == '{"x": {"key": 1'


def test_a_hub_id_is_read_from_its_index_and_card(hub: str, tmp_path: Path) -> None:
    told = ask_hub(hub, tmp_path, "https://huggingface.co/tiny/sketch")
    assert told["key"] == key_of("tiny/sketch") == "tiny-sketch"
    assert told["sources"] == ["tiny/sketch"]
    assert (told["licence"], told["gated"]) == ("paper-1", "no")
    assert [*tmp_path.rglob("*.safetensors")] == []


@pytest.mark.parametrize(
    ("typed", "settings", "causes"),
    [
        ("tiny/gone", {}, ["no such model", "gated", "no connection"]),
        ("tiny/shut", {}, ["gated", "CROQUIS_HF_TOKEN"]),
        ("tiny/old", {}, ["can run code", "safetensors"]),
        ("tiny/sketch", {"offline": True}, ["CROQUIS_OFFLINE"]),
    ],
)
def test_a_hub_id_that_cannot_be_used_is_told_why(
    hub: str, tmp_path: Path, typed: str, settings: dict[str, object], causes: list[str]
) -> None:
    error = str(ask_hub(hub, tmp_path, typed, **settings)["error"])
    assert all(cause in error for cause in causes), error
