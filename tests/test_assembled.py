"""Loading by component: what lacks is named, what is unknown is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families.cascade_house import (
    copy_of,
    draw_all,
    encoders_in_memory,
    folder_of,
    make_catalogue,
    make_manager,
    make_request,
    make_settings,
)
from transformers import T5EncoderModel

from pipelines.loader import LoadedModel, Loader
from studio.errors import ModelUnavailable
from studio.model_files import wanted_files


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("karlo", "prior/diffusion_pytorch_model.safetensors"),
        ("karlo", "decoder/config.json"),
        ("karlo", "super_res_scheduler/scheduler_config.json"),
        ("karlo", "tokenizer/tokenizer.json"),
        ("karlo", "text_encoder/model.safetensors"),
        ("vq-diffusion", "learned_classifier_free_sampling_embeddings/config.json"),
        ("if-1", "watermarker/diffusion_pytorch_model.safetensors"),
        ("if-2", "feature_extractor/preprocessor_config.json"),
    ],
)
def test_a_file_that_lacks_is_named(tmp_path: Path, key: str, name: str) -> None:
    folder = copy_of(key, tmp_path)
    (folder / name).unlink()
    with pytest.raises(ModelUnavailable, match=f"“{name}”.*is missing"):
        load(key, folder)


@pytest.mark.parametrize(
    "name", ["text_encoder/model.safetensors", "tokenizer/tokenizer.json", "unet/config.json"]
)
def test_after_a_file_that_lacked_the_next_request_draws(tmp_path: Path, name: str) -> None:
    folder = copy_of("if-1", tmp_path)
    manager = make_manager({"if-1": folder})
    (folder / name).rename(tmp_path / "away")
    with pytest.raises(ModelUnavailable, match=f"“{name}”.*is missing"):
        draw_all(manager, make_request("if-1"))
    assert manager.nbytes == 0
    assert encoders_in_memory() == 0
    (tmp_path / "away").rename(folder / name)
    assert len(draw_all(manager, make_request("if-1"))) == 1


def test_a_shard_that_lacks_is_named(tmp_path: Path) -> None:
    folder = copy_of("karlo", tmp_path)
    part = folder / "prior"
    shards = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    (part / "diffusion_pytorch_model.safetensors").rename(part / shards[0])
    index = {"metadata": {}, "weight_map": {"a": shards[0], "b": shards[1]}}
    (part / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelUnavailable, match=f"“prior/{shards[1]}”.*is missing"):
        load("karlo", folder)


@pytest.mark.parametrize("key", ["karlo", "vq-diffusion", "if-1"])
def test_pickles_are_refused(tmp_path: Path, key: str) -> None:
    folder = copy_of(key, tmp_path)
    part = folder / "text_encoder"
    (part / "model.safetensors").rename(part / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match="text_encoder” holds only pickle"):
        load(key, folder)


def test_a_class_that_is_not_listed_is_never_imported(tmp_path: Path) -> None:
    folder = copy_of("karlo", tmp_path)
    change_index(folder, "prior", ["antigravity", "Popen"])
    with pytest.raises(ModelUnavailable, match="“prior” is of the class 'Popen', which Croquis"):
        load("karlo", folder)


@pytest.mark.parametrize("place", [None, "prior", ["diffusers"], {}, [None, 5]])
def test_a_component_that_the_index_does_not_name_is_told(tmp_path: Path, place: object) -> None:
    folder = copy_of("karlo", tmp_path)
    change_index(folder, "prior", place)
    with pytest.raises(ModelUnavailable, match="prior"):
        load("karlo", folder)


def change_index(folder: Path, name: str, place: object) -> None:
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), name: place}))


def load(key: str, folder: Path) -> LoadedModel:
    with make_manager({key: folder}).borrow(key) as loaded:
        return loaded


def test_components_without_the_variant_are_loaded_as_they_are(tmp_path: Path) -> None:
    folder = copy_of("if-1", tmp_path)
    plain = folder / "unet" / "diffusion_pytorch_model.safetensors"
    half = {name: weights.half() for name, weights in load_file(plain).items()}
    save_file(half, plain.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
    plain.unlink()
    index = {
        "metadata": {},
        "weight_map": {"a": "diffusion_pytorch_model-00001-of-00002.safetensors"},
    }
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps(index)
    )
    shard_text_encoder(folder / "text_encoder")
    settings = make_settings({"if-1": folder})
    loader = Loader(settings)
    found = loader.find(make_catalogue(settings).get_model("if-1"), lambda text: None)
    assert found.variant == "fp16"
    loaded = loader.load(found)
    assert found.nbytes <= loaded.nbytes < 1.02 * found.nbytes
    assert loaded.pipeline.watermarker.watermark_image.any()
    whole = T5EncoderModel.from_pretrained(folder_of("if-1") / "text_encoder", dtype=torch.float16)
    sharded = loader.load_encoder(loader.find_encoder(found.spec, lambda text: None))
    same = torch.equal(sharded.pipeline.text_encoder.shared.weight, whole.shared.weight.float())
    again = loader.find_encoder(found.spec, lambda text: None)
    assert again is loader.find_encoder(found.spec, lambda text: None)  # hashed once
    assert again.nbytes == sharded.nbytes
    assert same and sharded.nbytes == sum(weights.nbytes for weights in whole.float().parameters())


def shard_text_encoder(part: Path) -> None:
    """Save it as DeepFloyd's is: two files in half precision, and an index of these."""
    encoder = T5EncoderModel.from_pretrained(part, dtype=torch.float16)
    (part / "model.safetensors").unlink()
    values = {name: value.clone() for name, value in encoder.state_dict().items()}
    values.pop("encoder.embed_tokens.weight", None)
    names = [f"model.fp16-0000{number}-of-00002.safetensors" for number in (1, 2)]
    places = {name: names[index % 2] for index, name in enumerate(sorted(values))}
    for file in names:
        held = {name: value for name, value in values.items() if places[name] == file}
        save_file(held, part / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": places}
    (part / "model.safetensors.index.fp16.json").write_text(json.dumps(index))


def test_what_is_fetched_has_all_parts_and_no_text_encoder_of_stage_two() -> None:
    index = (folder_of("if-2") / "model_index.json").read_text()
    plain = ["safety_checker/model.safetensors", "watermarker/diffusion_pytorch_model.safetensors"]
    half = "unet/diffusion_pytorch_model.fp16.safetensors"
    encoder = "text_encoder/model.fp16-00001-of-00001.safetensors"
    names = [*plain, half, half.replace(".fp16", ""), encoder, encoder.replace(".fp16", "")]
    catalogue = make_catalogue(make_settings())
    fetched = wanted_files(names, index, catalogue.get_model("if-2"))
    assert {name for name in fetched if name.endswith(".safetensors")} == {*plain, half}
    fetched = wanted_files(names, index, catalogue.get_model("if-1"))
    assert {name for name in fetched if name.endswith(".safetensors")} == {*plain, half, encoder}
