"""Recipes: written twice into every PNG, read back exactly."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from small_studio import make_catalogue, make_request, scribble

from studio.infotext import parse_infotext, write_infotext
from studio.readback import read_recipe
from studio.recipes import Recipe, encode_png
from studio.request import GenerationRequest

CATALOGUE = make_catalogue()


def make_recipe(**changes: object) -> Recipe:
    request = make_request(**changes)
    scheduler = CATALOGUE.get_scheduler(request.scheduler)
    return Recipe(
        request=request,
        model_title="Croquis Mini",
        revision="local@0123456789ab",
        sampler=scheduler.a1111,
        schedule=scheduler.a1111_schedule,
        versions={"diffusers": "0.42.1", "torch": "2.13.0"},
        created_at="2026-01-02T03:04:05+00:00",
    )


def text_of(recipe: Recipe, chunk: str = "parameters") -> str:
    png = encode_png(Image.new("RGB", (8, 8)), recipe)
    return str(Image.open(io.BytesIO(png)).info[chunk])


def test_the_text_is_automatic1111s() -> None:
    recipe = make_recipe(
        prompt="a red chair\noak floor",
        negative_prompt="people, cars",
        scheduler="dpmpp_2m_karras",
        guidance_scale=7.5,
        upscale=4,
    )
    assert text_of(recipe) == (
        "a red chair\noak floor\n"
        "Negative prompt: people, cars\n"
        "Steps: 4, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 7, "
        "Size: 64x64, Model hash: 0123456789, Model: Croquis Mini, RNG: CPU, Hires upscale: 4, "
        "App: Croquis, Model id: builtin, Diffusers: 0.42.1, Torch: 2.13.0"
    )


def test_nothing_is_written_for_what_is_not_there() -> None:
    text = text_of(make_recipe())
    for absent in ("Negative prompt", "Schedule type", "Hires", "Tiling", "None"):
        assert absent not in text
    assert "CFG scale: 4, " in text


def test_a_value_with_a_mark_in_it_is_quoted() -> None:
    recipe = replace(make_recipe(), model_title='Red: "the" one, best', revision="org/repo@abc:1")
    line = text_of(recipe).splitlines()[-1]
    assert r'Model: "Red: \"the\" one, best"' in line
    assert 'Revision: "org/repo@abc:1"' in line
    assert "Model hash" not in line
    assert parse_infotext(text_of(recipe)).pairs["Model"] == 'Red: "the" one, best'


def test_a_key_that_equals_its_value_is_written_alone() -> None:
    assert write_infotext(make_request(), {"Steps": 4, "Tiling": "Tiling"}).endswith(
        "Steps: 4, Tiling"
    )


@pytest.mark.parametrize(
    ("tiling", "pair"),
    [("both", "RNG: CPU, Tiling: True, App"), ("x", "Tiling axis: x"), ("y", "Tiling axis: y")],
)
def test_tiling_is_written_as_automatic1111_does_where_it_can(tiling: str, pair: str) -> None:
    recipe = make_recipe(tiling=tiling)
    assert pair in text_of(recipe)
    png = encode_png(Image.new("RGB", (8, 8)), recipe)
    for copy in (png, without_own_chunk(png)):
        assert read_recipe(copy, CATALOGUE).fields["tiling"] == tiling


@pytest.mark.parametrize(
    "prompt",
    [
        "a: b, c: d, e: f",
        "first\n\nthird line: with pair, and: another, and: third",
        "🦊 كرسي",
        'quotes " and \\ backslash',
        "Steps: 9, Sampler: Heun, Seed: 3",
    ],
)
def test_both_texts_give_the_request_back(prompt: str) -> None:
    request = make_request(
        prompt=prompt, negative_prompt="no: cars,\nno people", scheduler="heun", upscale=4
    )
    png = encode_png(Image.new("RGB", (8, 8)), make_recipe(**request.to_json()))
    read = read_recipe(png, CATALOGUE)
    assert (read.dialect, read.warnings) == ("Croquis", ())
    assert GenerationRequest(**read.fields) == request
    read = read_recipe(without_own_chunk(png), CATALOGUE)
    assert (read.dialect, read.warnings) == ("AUTOMATIC1111", ())
    assert GenerationRequest(**read.fields) == request


def without_own_chunk(png: bytes) -> bytes:
    from PIL import PngImagePlugin

    image = Image.open(io.BytesIO(png))
    kept = PngImagePlugin.PngInfo()
    kept.add_text("parameters", image.info["parameters"])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=kept)
    return buffer.getvalue()


def test_every_scheduler_finds_its_way_back_through_automatic1111s_names() -> None:
    for key in CATALOGUE.schedulers:
        model = next(row.key for row in CATALOGUE.models.values() if key in row.schedulers)
        recipe = make_recipe(scheduler=key, model=model)
        png = encode_png(Image.new("RGB", (8, 8)), recipe)
        read = read_recipe(without_own_chunk(png), CATALOGUE)
        assert read.fields["scheduler"] == key, key


def test_our_chunk_is_plain_json_that_loses_nothing() -> None:
    recipe = make_recipe(prompt="🦊", guidance_scale=7.123456789)
    own = text_of(recipe, "croquis")
    assert own.isascii()
    assert json.loads(own)["request"]["prompt"] == "🦊"
    assert Recipe.from_json(own) == recipe


def test_the_pixels_are_kept_exactly(tmp_path: Path) -> None:
    image = scribble(make_request(), 0)
    path = tmp_path / "x.png"
    path.write_bytes(encode_png(image, make_recipe()))
    assert Image.open(path).tobytes() == image.tobytes()
    assert read_recipe(path, CATALOGUE).fields["seed"] == 7


@pytest.mark.parametrize(
    ("text", "prompt", "negative", "pairs"),
    [
        ("", "", "", {}),
        ("just words", "just words", "", {}),
        ("a\nb: 1, c: 2", "a\nb: 1, c: 2", "", {}),
        ("a\nNegative prompt: b\nc", "a", "b\nc", {}),
        ("Negative prompt: b", "", "b", {}),
        ("a\nSteps: 1, Seed: 2, Size: 8x8", "a", "", {"Steps": "1", "Seed": "2", "Size": "8x8"}),
        (
            'a\nSteps: 1, Lora hashes: "x: 1, y: 2", Seed: 2',
            "a",
            "",
            {"Steps": "1", "Lora hashes": "x: 1, y: 2", "Seed": "2"},
        ),
        ('a\nbb: "x, cc: 1, dd: 2', "a", "", {"bb": '"x', "cc": "1", "dd": "2"}),
    ],
)
def test_infotext_is_taken_apart(
    text: str, prompt: str, negative: str, pairs: dict[str, str]
) -> None:
    found = parse_infotext(text)
    assert (found.prompt, found.negative_prompt, dict(found.pairs)) == (prompt, negative, pairs)
