"""Requests: every range is checked once, and each mistake has its own words."""

from __future__ import annotations

import pytest
from small_studio import make_request

from studio.errors import InvalidRequest
from studio.request import MAX_SEED, GenerationRequest


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
    make_request(width=1024, height=1024, upscale=4)
    with pytest.raises(InvalidRequest, match="4128 x 256 px; a picture has at most 4096"):
        make_request(width=1032, upscale=4)


def test_json_and_back_is_the_same_request() -> None:
    request = make_request(prompt="a: b, c", negative_prompt="🦊", upscale=4, tiling="y")
    assert GenerationRequest(**request.to_json()) == request
