"""What of the models is on disk, which files one needs, who may change that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from small_studio import open_studio

from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.downloads import Downloads
from studio.errors import Cancelled, InvalidRequest, UnknownModel
from studio.model_files import Unusable, missing_file, wanted_files
from studio.model_store import delete, find_folder, own_repositories, sharing, size_text, stored
from studio.settings import Settings
from studio.specs import ModelSpec
from studio.studio import Studio

BASE = "stabilityai/stable-diffusion-xl-base-1.0"
COMMIT = "c" * 40
XL_PARTS = {
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
XL_INDEX = json.dumps(
    {"_class_name": "StableDiffusionXLPipeline", **XL_PARTS, "image": [None, None]}
)
XL_WANTED = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.fp16.safetensors",
    "text_encoder_2/config.json",
    "text_encoder_2/model.fp16.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "tokenizer_2/spiece.model",
    "tokenizer_2/tokenizer.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.fp16.safetensors",
)
XL_UNWANTED = (
    *("sd_xl_base_1.0.safetensors", "sd_xl_base_1.0_0.9vae.safetensors", "README.md", "01.png"),
    *("sd_xl_offset_example-lora_1.0.safetensors", "unet/model.onnx", "unet/model.onnx_data"),
    *(
        "text_encoder/flax_model.msgpack",
        "text_encoder/model.safetensors",
        "unet/openvino_model.bin",
    ),
    *("unet/diffusion_flax_model.msgpack", "unet/diffusion_pytorch_model.safetensors"),
    *("text_encoder/openvino_model.xml", "vae/diffusion_pytorch_model.safetensors", "unet/run.py"),
    *("vae_1_0/config.json", "vae_1_0/diffusion_pytorch_model.fp16.safetensors"),
    *("vae_decoder/config.json", "vae_decoder/model.onnx", "vae_encoder/openvino_model.bin"),
    "text_encoder_2/model.safetensors",
)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, Settings())


@pytest.fixture
def xl(catalogue: Catalogue) -> ModelSpec:
    return catalogue.get_model("sdxl")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def studio(cache: Path, tmp_path: Path) -> Iterator[Studio]:
    with open_studio(tmp_path / "croquis") as studio:
        yield studio


def put(cache: Path, repository: str, *names: str, size: int = 1000) -> Path:
    """Enter files into the cache as the Hub's client does: blobs, and links to them."""
    root = cache / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs/main").write_text(COMMIT)
    (root / "blobs").mkdir(exist_ok=True)
    for name in names:
        blob = root / "blobs" / name.replace("/", "_")
        blob.write_bytes(XL_INDEX.encode() if name == "model_index.json" else b"0" * size)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
    return snapshot


# Which files


def test_of_sdxl_only_what_its_pipeline_loads_is_wanted(xl: ModelSpec) -> None:
    names = [*XL_WANTED, *XL_UNWANTED]
    assert sorted(wanted_files(names, XL_INDEX, xl)) == sorted(XL_WANTED)
    plain = wanted_files(names, XL_INDEX, replace(xl, variant=None))
    assert {name for name in plain if name.startswith("vae")} == {
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    }


def test_shards_come_with_their_index_and_their_chat_template(xl: ModelSpec) -> None:
    index = json.dumps({"text_encoder": ["transformers", "Qwen3"], "tokenizer": ["t", "T"]})
    shards = [f"text_encoder/model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    texts = ["text_encoder/config.json", "text_encoder/model.safetensors.index.json"]
    texts += ["tokenizer/chat_template.jinja", "tokenizer/vocab.json"]
    whole = "text_encoder/model.safetensors"
    wanted = wanted_files([*shards, *texts, whole], index, xl)
    assert sorted(wanted) == sorted(["model_index.json", *shards, *texts])


def test_an_encoder_that_another_model_lends_is_left_out(catalogue: Catalogue) -> None:
    second = catalogue.get_model("if-2")
    index = json.dumps({"text_encoder": ["t", "T5EncoderModel"], "unet": ["d", "U"]})
    names = ["text_encoder/config.json", "text_encoder/model.safetensors"]
    names += ["unet/config.json", "unet/x.safetensors"]
    assert "text_encoder/model.safetensors" not in wanted_files(names, index, second)
    first = catalogue.get_model("if-1")
    assert "text_encoder/model.safetensors" in wanted_files(names, index, first)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["unet/config.json", "unet/diffusion_pytorch_model.bin"], "“unet” only in pickle"),
        (["unet/config.json"], "lacks the weights of “unet”"),
    ],
)
def test_what_could_not_be_loaded_is_refused(xl: ModelSpec, names: list[str], says: str) -> None:
    with pytest.raises(Unusable, match=says):
        wanted_files(names, XL_INDEX, xl)
    with pytest.raises(Unusable, match="no valid model_index"):
        wanted_files(names, "[]", xl)


# What is on disk


def test_a_model_is_on_disk_once_nothing_of_it_is_missing(cache: Path, xl: ModelSpec) -> None:
    assert (stored(xl).nbytes, stored(xl).is_whole) == (0, False)
    folder = put(cache, BASE, *XL_WANTED)
    here = stored(xl)
    assert here.is_whole
    assert here.nbytes == 1000 * (len(XL_WANTED) - 1) + len(XL_INDEX) + len(COMMIT)
    assert find_folder(xl) == (BASE, folder)
    (folder / "unet/diffusion_pytorch_model.fp16.safetensors").unlink()
    assert missing_file(folder, xl) == "unet/*.safetensors"
    assert not stored(xl).is_whole


def test_a_missing_shard_is_named(cache: Path, xl: ModelSpec) -> None:
    folder = put(cache, BASE, *(name for name in XL_WANTED if not name.startswith("unet")))
    table = {f"layer{n}": f"m.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)}
    (folder / "unet").mkdir()
    index = folder / "unet/m.fp16.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": table}))
    (folder / "unet/m.fp16-00001-of-00002.safetensors").touch()
    assert missing_file(folder, xl) == "unet/m.fp16-00002-of-00002.safetensors"
    (folder / "unet/m.fp16-00002-of-00002.safetensors").touch()
    assert missing_file(folder, xl) is None


def test_a_variant_needs_its_lora_too(cache: Path, catalogue: Catalogue) -> None:
    lightning = catalogue.get_model("sdxl-lightning")
    put(cache, BASE, *XL_WANTED)
    assert not stored(lightning).is_whole
    put(cache, "ByteDance/SDXL-Lightning", "sdxl_lightning_4step_lora.safetensors")
    assert stored(lightning).is_whole


def test_a_deleted_variant_takes_its_own_files_alone(cache: Path, catalogue: Catalogue) -> None:
    models = catalogue.models
    put(cache, BASE, *XL_WANTED)
    put(cache, "ByteDance/SDXL-Lightning", "sdxl_lightning_4step_lora.safetensors", size=500)
    lightning, xl = models["sdxl-lightning"], models["sdxl"]
    assert own_repositories(lightning, models.values()) == ("ByteDance/SDXL-Lightning",)
    assert "SDXL-Lightning" in [one.title for one in sharing(xl, models.values())]
    assert delete(lightning, models.values()) == 500 + len(COMMIT)
    assert stored(xl).is_whole
    delete(xl, models.values())
    assert list(cache.glob("models--*")) == []
    with pytest.raises(InvalidRequest, match="Nothing of SDXL is on"):
        delete(xl, models.values())


@pytest.mark.parametrize(("nbytes", "text"), [(2.58e9, "2.6 GB"), (3.1e7, "31 MB")])
def test_sizes_are_written_for_people(nbytes: float, text: str) -> None:
    assert size_text(nbytes) == text


# Who may change it


def test_the_list_says_what_is_partly_here(cache: Path, studio: Studio) -> None:
    put(cache, BASE, "model_index.json", size=1000)
    part = cache / f"models--{BASE.replace('/', '--')}/blobs/abc.part"
    part.write_bytes(b"0" * 20_000_000)
    rows = {row.spec.key: row for row in studio.shelf.rows()}
    assert rows["sdxl"].availability.label == "20 MB of about 6.9 GB on disk"
    assert (rows["sdxl"].can_download, rows["sdxl"].can_delete) == (True, True)
    assert (rows["sd2"].can_download, rows["sd2"].can_delete) == (True, False)
    assert (rows["builtin"].can_download, rows["builtin"].can_delete) == (False, False)
    assert rows.keys() == {k for k, s in studio.catalogue.models.items() if s.backend != "hosted"}


def test_what_is_in_use_is_not_deleted(cache: Path, studio: Studio) -> None:
    put(cache, BASE, *XL_WANTED)
    studio.set_model_state("sdxl-lightning", "loaded")
    with pytest.raises(InvalidRequest, match="SDXL-Lightning is in memory"):
        studio.shelf.delete("sdxl")
    studio.set_model_state("sdxl-lightning", "unloaded")
    studio.downloads.ask("sdxl")
    with pytest.raises(InvalidRequest, match="being downloaded"):
        studio.shelf.delete("sdxl")
    studio.downloads.stop("sdxl")
    assert studio.shelf.delete("sdxl") > 1000


def test_a_built_in_model_is_neither_deleted_nor_downloaded(studio: Studio) -> None:
    with pytest.raises(InvalidRequest, match="Nothing of Croquis Mini is on"):
        studio.shelf.delete("builtin")
    with pytest.raises(InvalidRequest, match="nothing to download of Croquis Mini"):
        studio.shelf.download("builtin")
    with pytest.raises(UnknownModel):
        studio.shelf.download("../../etc")


@pytest.mark.parametrize(("host", "admin"), [("127.0.0.1", None), ("::1", None), ("0.0.0.0", True)])
def test_the_host_may_change_models(host: str, admin: bool | None) -> None:
    assert Settings(host=host, model_admin=admin).lets_manage_models


@pytest.mark.parametrize(("host", "admin"), [("0.0.0.0", None), ("127.0.0.1", False)])
def test_strangers_change_nothing(
    cache: Path, tmp_path: Path, host: str, admin: bool | None
) -> None:
    put(cache, BASE, *XL_WANTED)
    with open_studio(tmp_path / "croquis", host=host, model_admin=admin) as studio:
        for change in (studio.shelf.delete, studio.shelf.download, studio.shelf.stop):
            with pytest.raises(InvalidRequest, match="CROQUIS_MODEL_ADMIN=1"):
                change("sdxl")
        for typed in (str(tmp_path), "owner/name"):
            with pytest.raises(InvalidRequest, match="CROQUIS_MODEL_ADMIN=1"):
                studio.add_model(typed)
        assert stored(studio.catalogue.models["sdxl"]).is_whole


def test_offline_nothing_is_downloaded(cache: Path, tmp_path: Path) -> None:
    with open_studio(tmp_path / "croquis", offline=True) as studio:
        with pytest.raises(InvalidRequest, match="CROQUIS_OFFLINE"):
            studio.shelf.download("sd2")


# The queue


def test_downloads_come_one_after_the_other() -> None:
    downloads = Downloads()
    assert downloads.take(0.01) is None
    downloads.ask("a")
    downloads.ask("b")
    with pytest.raises(InvalidRequest, match="already"):
        downloads.ask("b")
    assert downloads.take(0.01) == "a"
    downloads.report("a", "half")
    assert [one.message for one in downloads.active()] == ["half", ""]
    downloads.end("a")
    assert downloads.take(0.01) == "b"
    downloads.end("b", "gated")
    assert [downloads.of(key).state for key in "ab"] == ["done", "failed"]


def test_a_stopped_download_is_cancelled_at_its_next_word_and_may_begin_again() -> None:
    downloads = Downloads()
    downloads.ask("a")
    assert downloads.take(0.01) == "a"
    downloads.stop("a")
    downloads.ask("a")
    with pytest.raises(Cancelled):
        downloads.report("a", "more")
    downloads.end("a", "an end that is late")
    assert downloads.take(0.01) == "a"
    downloads.report("a", "more")
    assert downloads.of("a").message == "more"


def test_one_that_waits_is_stopped_before_it_begins() -> None:
    downloads = Downloads()
    downloads.ask("a")
    downloads.stop("a")
    assert downloads.take(0.01) is None
    assert downloads.active() == []
