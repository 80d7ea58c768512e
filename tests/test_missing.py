"""What a form or a found picture names and is not here: left out, and the form stays usable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from small_studio import ANNA, BERT, make_catalogue, make_request, open_studio
from test_recipes import make_recipe

from studio.adapters import parse_source
from studio.errors import InvalidRequest
from studio.ingredients import START_TASKS, Control, Lora, SecondPass, Start
from studio.model_store import find_file
from studio.readback import read_recipe
from studio.recipes import encode_png
from studio.request import GenerationRequest
from ui.form import FIELDS, defaults_of, from_request
from ui.missing import parts_of, without_missing
from ui.starting import build_start

GONE = "0f" * 16


def read_back(request: GenerationRequest) -> GenerationRequest | None:
    recipe = replace(make_recipe(), request=request)
    png = encode_png(Image.new("RGB", (8, 8)), recipe)
    return read_recipe(png, make_catalogue()).request


@pytest.mark.parametrize(
    "parts",
    [
        {"start": Start(task="outpainting", picture=GONE, margins=(8, 0, 16, 0))},
        {"loras": (Lora(source="anna/lines", weight=0.5),), "embeddings": ("anna/cat",)},
        {"control": Control(kind="canny", picture=GONE), "refiner": True},
        {"second_pass": SecondPass(scale=3, strength=0.4)},
    ],
)
def test_a_dropped_picture_gives_all_its_parts_back(parts: dict[str, object]) -> None:
    found = read_back(make_request(**parts))
    assert found is not None
    for name, part in parts.items():
        assert getattr(found, name) == part


def test_a_dropped_picture_without_parts_has_none() -> None:
    assert read_back(make_request()) is None


def test_parts_that_cannot_be_are_told_and_the_rest_is_read() -> None:
    recipe = replace(make_recipe(), request=make_request(refiner=True))
    text = recipe.to_json().replace('"refiner": true', '"refiner": 7, "start": {"task": 1}')
    png = encode_png(Image.new("RGB", (8, 8)), recipe)
    broken = _with_chunk(png, text)
    found = read_recipe(broken, make_catalogue())
    assert found.request is None
    assert found.fields["prompt"] == "a red chair"
    assert any("cannot be read" in warning for warning in found.warnings)


def _with_chunk(png: bytes, recipe: str) -> bytes:
    import io

    from PIL import PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add_text("croquis", recipe)
    stream = io.BytesIO()
    Image.open(io.BytesIO(png)).save(stream, "PNG", pnginfo=text)
    return stream.getvalue()


def test_what_is_not_here_is_left_out_of_the_form(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        kept = studio.keep_input(Image.new("RGB", (8, 8)), ANNA)
        start = Start(task="image_to_image", picture=kept, strength=0.3)
        request = make_request(start=start, control=Control(kind="line", picture=GONE))
        parts, lacks = parts_of(studio, ANNA, request)
        assert lacks
        assert (parts["start_picture"], parts["start_strength"]) == (kept, 0.3)
        assert parts["control_picture"] == ""
        assert parts_of(studio, BERT, request)[0]["start_picture"] == ""
        emptied, lacks = parts_of(studio, ANNA, None)
        assert not lacks
        assert emptied["start_picture"] == ""
        assert set(emptied) < set(FIELDS)
        fresh = defaults_of(studio.catalogue.get_model("builtin"))
        assert without_missing(studio, ANNA, fresh) == {}
        lost = without_missing(studio, ANNA, from_request(request) | {"start_picture": GONE})
        assert lost["start_picture"] == lost["control_picture"] == ""


def test_every_task_of_every_model_can_come_from_the_page() -> None:
    import gradio as gr

    with gr.Blocks():
        radio = build_start(make_catalogue().get_model("builtin"))["start_task"]
    assert [radio.preprocess(task) for task in START_TASKS] == [*START_TASKS]


@pytest.mark.parametrize(
    "typed",
    [
        "anna/lines//etc/secret.safetensors",
        "anna/lines/../../x.safetensors",
        "anna/lines/a\\b.safetensors",
    ],
)
def test_a_typed_name_never_becomes_a_path_of_this_machine(typed: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        parse_source(typed)
    secret = tmp_path / "secret.safetensors"
    secret.write_bytes(b"x")
    assert find_file("anna/lines", str(secret)) is None
    assert find_file("anna/lines", "../secret.safetensors") is None


def test_the_refiner_draws_from_words_alone() -> None:
    catalogue = make_catalogue()
    plain = replace(catalogue.default_request("sdxl", "a cat"), refiner=True)
    catalogue.check(plain)
    for part in ({"second_pass": SecondPass(scale=1.5)}, {"start": _start()}):
        with pytest.raises(InvalidRequest, match="refiner draws the end"):
            catalogue.check(replace(plain, **part))


def _start() -> Start:
    return Start(task="image_to_image", picture=GONE)
