"""Requests: every range is checked once, and each mistake has its own words."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_studio import (
    ANNA,
    Scribbler,
    make_catalogue,
    make_request,
    open_studio,
    wait_for_end,
)

from studio.catalogue import Catalogue
from studio.errors import InvalidRequest
from studio.ingredients import Control, Lora, Reference, SecondPass, Start
from studio.request import MAX_SEED, GenerationRequest
from studio.settings import Settings

PICTURE, UPLOAD = "0f" * 16, "input-" + "1e" * 32


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", ""),
        ("prompt", " \n "),
        ("prompt", "x" * 10_001),
        ("prompt", "a\x00b"),
        ("prompt", "\ud83d"),
        ("prompt", None),
        ("negative_prompt", None),
        ("negative_prompt", "x" * 10_001),
        ("num_inference_steps", 0),
        ("num_inference_steps", 10_000),
        ("num_inference_steps", 2.5),
        ("num_inference_steps", True),
        ("guidance_scale", 0.5),
        ("guidance_scale", float("nan")),
        ("guidance_scale", float("inf")),
        ("guidance_scale", 10**400),
        ("guidance_scale", "7"),
        ("width", 500),
        ("width", 56),
        ("height", 4096),
        ("height", "64"),
        ("seed", -2),
        ("seed", 2**32),
        ("seed", "seven"),
        ("num_images", 0),
        ("num_images", 17),
        ("upscale", 2),
        ("upscale", True),
        ("upscale", 4.0),
        ("tiling", "z"),
        ("tiling", True),
        ("tiling", ["x"]),
    ],
)
def test_a_value_outside_its_rule_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_request(**{field: value})
    assert field in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "prompt", ["x" * 10_000, "🦊 in a 🏠", "كرسي أحمر", "line\nline", "<script>alert(1)</script>"]
)
def test_unusual_prompts_are_kept_as_they_are(prompt: str) -> None:
    assert make_request(prompt=prompt).prompt == prompt


def test_the_limits_themselves_are_allowed() -> None:
    make_request(num_inference_steps=200, guidance_scale=30, width=2048, height=64)
    make_request(seed=MAX_SEED)
    make_request(seed=-1)


def test_a_picture_too_large_to_keep_is_refused() -> None:
    catalogue = make_catalogue()
    large = replace(catalogue.get_model("sd2"), max_side=2048)
    catalogue = Catalogue({"sd2": large}, catalogue.schedulers, Settings())
    catalogue.check(make_request(model="sd2", width=1024, height=1024, upscale=4))
    catalogue.check(make_request(model="sd2", width=1032, height=256))
    with pytest.raises(InvalidRequest, match="4128 x 1024 px; a picture has at most 4096"):
        catalogue.check(make_request(model="sd2", width=1032, height=256, upscale=4))


def test_what_was_kept_before_a_limit_can_still_be_read(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio, Scribbler(studio):
        done = wait_for_end(studio, studio.submit(make_request(upscale=4), ANNA))
        [picture_id] = done.picture_ids
        larger = wait_for_end(studio, studio.enlarge(picture_id, ANNA))
    with sqlite3.connect(tmp_path / "croquis.db") as connection:
        connection.execute("UPDATE jobs SET request = json_set(request, '$.width', 2048)")
        wide = "json_set(enlargement, '$.width', 2048)"
        connection.execute(f"UPDATE jobs SET enlargement = {wide} WHERE enlargement NOT NULL")
        connection.execute("UPDATE pictures SET recipe = json_set(recipe, '$.request.width', 2048)")
        connection.execute("UPDATE pictures SET width = 8192")
    with open_studio(tmp_path) as studio:
        assert [job.request.width for job in studio.jobs(ANNA)] == [2048, 2048]
        kept = studio.job(larger.id, ANNA).enlargement
        assert kept is not None and kept.width == 2048
        assert studio.picture(picture_id, ANNA).recipe.request.width == 2048
        with pytest.raises(InvalidRequest, match="a picture has at most 4096"):
            studio.enlarge(picture_id, ANNA)


def test_json_and_back_is_the_same_request() -> None:
    request = make_request(prompt="a: b, c", negative_prompt="🦊", upscale=4, tiling="y")
    assert GenerationRequest(**request.to_json()) == request


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"start": Start(task="inpainting", picture=PICTURE, mask=UPLOAD, strength=0.5)},
        {"start": Start(task="outpainting", picture=UPLOAD, margins=(16, 0, 8, 0))},
        {"loras": (Lora(source="anna/lines", weight=0.5), Lora(source=UPLOAD))},
        {"control": Control(kind="canny", picture=PICTURE), "refiner": True},
        {"reference": Reference(picture=UPLOAD), "embeddings": ("anna/cat.safetensors",)},
        {"second_pass": SecondPass(scale=2.0, strength=0.4)},
    ],
)
def test_parts_survive_json(parts: dict[str, object]) -> None:
    request = make_request(**parts)
    text = json.dumps(request.to_json())
    assert GenerationRequest.from_json(json.loads(text)) == request
    assert all((name in text) == (name in parts) for name in ("start", "loras", "refiner"))


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (lambda: Start(task="paint", picture=PICTURE), "task"),
        (lambda: Start(task="image_to_image", picture="../etc/passwd"), "picture"),
        (lambda: Start(task="image_to_image", picture=PICTURE, strength=0), "strength"),
        (lambda: Start(task="inpainting", picture=PICTURE), "mask is empty"),
        (lambda: Start(task="inpainting", picture=PICTURE, mask="x"), "mask"),
        (lambda: Start(task="outpainting", picture=PICTURE), "at least one side"),
        (lambda: Start(task="outpainting", picture=PICTURE, margins=(7, 0, 0, 0)), "margins"),
        (lambda: Start(task="outpainting", picture=PICTURE, margins=8), "margins"),
        (lambda: Lora(source="a/b", weight=3), "weight"),
        (lambda: Lora(source=""), "LoRA"),
        (lambda: Lora(source="a\nb"), "LoRA"),
        (lambda: Control(kind="magic", picture=PICTURE), "kind"),
        (lambda: Reference(picture=PICTURE, weight=True), "weight"),
        (lambda: SecondPass(scale=5), "scale"),
        (lambda: make_request(start={"task": "inpainting"}), "start"),
        (lambda: make_request(loras=("a/b",)), "loras"),
        (lambda: make_request(loras=tuple(Lora(source="a/b") for _ in range(6))), "loras"),
        (lambda: make_request(embeddings=("",)), "embedding"),
        (lambda: make_request(refiner=1), "refiner"),
    ],
)
def test_a_part_that_cannot_be_is_refused(part: Callable[[], object], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        part()


def test_a_request_names_each_of_its_pictures_once() -> None:
    start = Start(task="inpainting", picture=PICTURE, mask=UPLOAD)
    request = make_request(start=start, reference=Reference(picture=PICTURE))
    assert request.pictures == (PICTURE, UPLOAD)
    assert make_request().pictures == ()
