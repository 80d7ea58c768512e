"""Reading settings from PNGs of anywhere: each dialect, and each kind of harm."""

from __future__ import annotations

import io
import json
import random
import struct
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin
from small_studio import make_catalogue, make_request
from test_recipes import make_recipe

from studio.errors import InvalidRequest
from studio.readback import ReadRecipe, read_recipe
from studio.recipes import encode_png
from studio.request import GenerationRequest

CATALOGUE = make_catalogue()
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_with(**texts: str) -> bytes:
    chunks = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        chunks.add_text(name, text)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def raw_png(*chunks: tuple[bytes, bytes], width: int = 8, height: int = 8) -> bytes:
    """A PNG put together by hand, so that it can be a bad one."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (8 * 25))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


def read(**texts: str) -> ReadRecipe:
    return read_recipe(png_with(**texts), CATALOGUE)


def test_automatic1111_old_joined_names_and_many_lines() -> None:
    found = read(
        parameters="a cat, sky: blue\nsize: big, mood: calm\n"
        "Negative prompt: bad,\nugly\n"
        "Steps: 30, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 965400086, Size: 768x512, "
        'Model hash: ad2a33c361, Model: stable-diffusion-2, Lora hashes: "a: 1, b: 2", '
        "Version: v1.10.1"
    )
    assert found.dialect == "AUTOMATIC1111"
    assert found.fields == {
        "prompt": "a cat, sky: blue\nsize: big, mood: calm",
        "negative_prompt": "bad,\nugly",
        "num_inference_steps": 30,
        "scheduler": "dpmpp_2m_karras",
        "guidance_scale": 7.0,
        "seed": 965400086,
        "width": 768,
        "height": 512,
        "model": "sd2",
        "tiling": "none",
        "prompt_syntax": "a1111",
    }
    assert found.unmapped["Lora hashes"] == "a: 1, b: 2"
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("sampler", "schedule", "key", "is_exact"),
    [
        ("Euler a", "", "euler_a", True),
        ("DPM++ 2M", "Karras", "dpmpp_2m_karras", True),
        ("DPM++ 2M", "Automatic", "dpmpp_2m_karras", True),
        ("DPM++ 2M", "", "dpmpp_2m", True),
        ("DPM++ SDE Karras", "", "dpmpp_sde_karras", True),
        ("PLMS", "", "pndm", True),
        ("DPM++ 2M", "Exponential", "dpmpp_2m", False),
        ("Euler a", "Karras", "euler_a", False),
        ("DPM fast", "", None, False),
    ],
)
def test_automatic1111_samplers(
    sampler: str, schedule: str, key: str | None, is_exact: bool
) -> None:
    typed = f", Schedule type: {schedule}" if schedule else ""
    found = read(parameters=f"x\nSteps: 9, Sampler: {sampler}{typed}, CFG scale: 2, Seed: 1")
    assert found.fields.get("scheduler") == key
    assert (found.warnings == ()) is is_exact


def test_fooocus() -> None:
    found = read(
        fooocus_scheme="fooocus",
        parameters=json.dumps(
            {
                "prompt": "a cat",
                "negative_prompt": "",
                "base_model": "juggernautXL_v8Rundiffusion",
                "seed": "6184203",
                "steps": 30,
                "guidance_scale": 4,
                "resolution": "(1152, 896)",
                "sampler": "dpmpp_2m_sde_gpu",
                "scheduler": "karras",
                "metadata_scheme": "fooocus",
                "sharpness": 2.0,
            }
        ),
    )
    assert found.dialect == "Fooocus"
    assert found.fields["scheduler"] == "dpmpp_2m_sde_karras"
    assert (found.fields["width"], found.fields["height"]) == (1152, 896)
    assert (found.fields["seed"], found.fields["negative_prompt"]) == (6184203, "")
    assert found.unmapped["sharpness"] == "2.0"
    assert "juggernautXL" in found.warnings[0]


def test_swarm() -> None:
    given = {
        "prompt": "a cat",
        "negativeprompt": "dogs",
        "model": "OfficialStableDiffusion/stable-diffusion-2.safetensors",
        "seed": 2042464333,
        "steps": 25,
        "cfgscale": 1.0,
        "width": 512,
        "height": 768,
        "sampler": "euler_ancestral",
        "scheduler": "normal",
    }
    found = read(parameters=json.dumps({"sui_image_params": given}))
    assert found.dialect == "SwarmUI"
    assert found.fields["model"] == "sd2"
    assert found.fields["scheduler"] == "euler_a"
    assert found.fields["negative_prompt"] == "dogs"
    assert found.warnings == ()


def test_invoke() -> None:
    given = {
        "app_version": "3.3.0",
        "positive_prompt": "landscape",
        "negative_prompt": "low quality",
        "width": 768,
        "height": 432,
        "seed": 356120443,
        "cfg_scale": 7.5,
        "steps": 50,
        "scheduler": "dpmpp_2m_k",
        "model": {"model_name": "stable-diffusion-2", "base_model": "sd-2"},
        "loras": [],
    }
    found = read(invokeai_metadata=json.dumps(given))
    assert found.dialect == "InvokeAI"
    assert found.fields["scheduler"] == "dpmpp_2m_karras"
    assert found.fields["model"] == "sd2"
    assert found.fields["guidance_scale"] == 7.5


@pytest.mark.parametrize(
    ("texts", "tiling"),
    [
        ({"parameters": "a cat\nSteps: 9, Seed: 3, Tiling: True, Size: 64x64"}, "both"),
        ({"parameters": "a cat\nSteps: 9, Seed: 3, Size: 64x64"}, "none"),
        ({"parameters": "a cat\nSteps: 9, Seed: 3, Tiling axis: y"}, "y"),
        ({"parameters": json.dumps({"sui_image_params": {"seamlesstileable": "X-Only"}})}, "x"),
        ({"parameters": json.dumps({"sui_image_params": {"seamlesstileable": True}})}, "both"),
        ({"invokeai_metadata": json.dumps({"seamless_x": False, "seamless_y": True})}, "y"),
        ({"invokeai_metadata": json.dumps({"seamless_x": True, "seamless_y": True})}, "both"),
    ],
)
def test_seamless_pictures_of_every_program(texts: dict[str, str], tiling: str) -> None:
    assert read(**texts).fields["tiling"] == tiling


def test_a_picture_from_before_there_was_tiling_has_none() -> None:
    old = make_request().to_json()
    del old["tiling"]
    found = read(croquis=json.dumps({"request": old}))
    assert GenerationRequest(**found.fields) == make_request()


def comfy_graph(**sampler: object) -> dict[str, object]:
    inputs = {
        "seed": 5,
        "steps": 20,
        "cfg": 8.0,
        "sampler_name": "dpmpp_2m",
        "scheduler": "karras",
        "denoise": 1.0,
        "model": ["10", 0],
        "positive": ["11", 0],
        "negative": ["7", 0],
        "latent_image": ["5", 0],
    }
    return {
        "3": {"class_type": "KSampler", "inputs": inputs | sampler},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd2.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 640}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["12", 0], "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "watermark", "clip": ["4", 1]}},
        "10": {"class_type": "LoraLoader", "inputs": {"lora_name": "x", "model": ["4", 0]}},
        "11": {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["6", 0]}},
        "12": {"class_type": "PrimitiveString", "inputs": {"value": "a bottle"}},
    }


def test_comfy_is_followed_through_the_graph() -> None:
    found = read(prompt=json.dumps(comfy_graph()), workflow="{}")
    assert found.dialect == "ComfyUI"
    assert found.fields == {
        "prompt": "a bottle",
        "negative_prompt": "watermark",
        "model": "sd2",
        "width": 512,
        "height": 640,
        "seed": 5,
        "num_inference_steps": 20,
        "guidance_scale": 8.0,
        "scheduler": "dpmpp_2m_karras",
    }


def test_comfy_seeds_are_longer_than_ours() -> None:
    found = read(prompt=json.dumps(comfy_graph(seed=2**64 - 1)))
    assert "seed" not in found.fields
    assert found.unmapped["seed"] == str(2**64 - 1)
    assert "`seed`" in found.warnings[0]


def test_comfy_primitives_and_loops() -> None:
    graph = comfy_graph(seed=["13", 0], positive=["14", 0])
    graph["13"] = {"class_type": "PrimitiveInt", "inputs": {"value": 77}}
    graph["14"] = {"class_type": "Loop", "inputs": {"conditioning": ["14", 0], "other": ["3", 0]}}
    found = read(prompt=json.dumps(graph))
    assert found.fields["seed"] == 77


def test_novel_ai() -> None:
    comment = {
        "steps": 28,
        "sampler": "k_euler_ancestral",
        "seed": 992,
        "scale": 5.0,
        "uc": "lowres",
        "noise_schedule": "native",
        "width": 832,
        "height": 1216,
    }
    found = read(Software="NovelAI", Description="a girl", Comment=json.dumps(comment))
    assert found.dialect == "NovelAI"
    assert found.fields["prompt"] == "a girl"
    assert found.fields["scheduler"] == "euler_a"
    assert found.fields["negative_prompt"] == "lowres"


def test_ours_is_preferred_and_its_damage_is_told() -> None:
    own = make_recipe().to_json()
    a1111 = "other\nSteps: 9, Sampler: Heun, Seed: 1"
    assert read(croquis=own, parameters=a1111).fields["prompt"] == "a red chair"
    found = read(croquis=own[:-9], parameters=a1111)
    assert found.fields["prompt"] == "other"
    assert "damaged" in found.warnings[0]


def test_what_the_model_of_the_picture_cannot_do_is_left_out() -> None:
    request = make_request().to_json() | {"width": 1024, "scheduler": "lcm"}
    found = read(croquis=json.dumps({"request": request}))
    assert "width" not in found.fields and "scheduler" not in found.fields
    assert found.fields["height"] == 64
    assert len(found.warnings) == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 2**32),
        ("seed", 10**4000),
        ("seed", True),
        ("seed", [1]),
        ("seed", "9" * 5000),
        ("num_inference_steps", 10_000),
        ("num_inference_steps", "20.5"),
        ("guidance_scale", float("nan")),
        ("guidance_scale", float("inf")),
        ("guidance_scale", 10**400),
        ("guidance_scale", {"x": 1}),
        ("width", -64),
        ("width", 63.5),
        ("height", 10**9),
        ("upscale", 3),
        ("num_images", 0),
        ("prompt", 5),
        ("prompt", "x" * 10_001),
        ("prompt", "a\x00b"),
        ("prompt", "\ud83d"),
        ("negative_prompt", ["x"]),
        ("model", {"__proto__": 1}),
        ("model", "../../etc/passwd"),
        ("scheduler", "__class__"),
        ("scheduler", 7),
        ("tiling", "z"),
        ("tiling", ["x"]),
        ("tiling", True),
    ],
)
def test_one_bad_value_costs_only_itself(field: str, value: object) -> None:
    request = make_request().to_json() | {field: value}
    found = read(croquis=json.dumps({"request": request}))
    assert field not in found.fields
    assert len(found.warnings) == 1
    assert len(found.warnings[0]) <= 500
    expected = make_request().to_json()
    del expected[field]
    assert found.fields == expected


def test_names_from_outside_never_become_ours() -> None:
    evil = {"__proto__": {"a": 1}, "__class__": "x", "constructor": "y", "self": 1, "owner": "z"}
    found = read(croquis=json.dumps({"request": make_request().to_json() | evil} | evil))
    assert GenerationRequest(**found.fields) == make_request()
    assert "__class__" not in found.unmapped
    assert found.unmapped["constructor"] == "y"


def test_what_is_left_over_is_cut_to_a_size_that_can_be_shown() -> None:
    many = {f"key {number}": "x" * 5000 for number in range(150)}
    found = read(invokeai_metadata=json.dumps({"seed": 1} | many))
    assert len(found.unmapped) <= 64
    assert max(len(text) for text in found.unmapped.values()) <= 500


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[" * 100_000,
        '{"request": ' * 20_000,
        "null",
        "[]",
        '"text"',
        "{}",
        '{"request": 5}',
        '{"request": null}',
        "9" * 10_000,
        "\x00",
        "NaN",
    ],
)
@pytest.mark.parametrize("chunk", ["croquis", "prompt", "invokeai_metadata", "parameters"])
def test_hostile_text_is_no_surprise(chunk: str, text: str) -> None:
    try:
        found = read(**{chunk: text})
    except InvalidRequest as exc:
        assert "settings" in str(exc)
    else:
        assert chunk == "parameters"
        assert set(found.fields) <= {"prompt", "negative_prompt"}


@pytest.mark.parametrize(
    "graph",
    [
        {"3": 5},
        {"3": {"inputs": 5}},
        {"3": {"inputs": {"positive": 1, "steps": [], "latent_image": {}}}},
        {"3": {"inputs": {"positive": ["3", 0], "steps": ["3", 0], "latent_image": ["9", 0]}}},
        {"3": {"inputs": {"positive": [[], 0], "steps": [1, 2, 3], "latent_image": [None, 0]}}},
    ],
)
def test_broken_graphs_are_no_surprise(graph: dict[str, object]) -> None:
    try:
        assert "seed" not in read(prompt=json.dumps(graph)).fields
    except InvalidRequest as exc:
        assert "settings" in str(exc)


@pytest.mark.parametrize(
    "line",
    ["a" * 900_000, "ab: " * 250_000, ' "' * 400_000, 'ab: "' * 180_000, " " * 900_000 + "x"],
    ids=["word", "pairs", "quotes", "open quotes", "spaces"],
)
def test_huge_lines_take_no_time(line: str) -> None:
    started = time.thread_time()
    try:
        read(parameters=line)
    except InvalidRequest as exc:
        assert "settings" in str(exc)
    assert time.thread_time() - started < 5


def test_a_text_that_unpacks_to_too_much_is_refused() -> None:
    bomb = b"croquis\0\0" + zlib.compress(b"x" * 50_000_000)
    with pytest.raises(InvalidRequest, match="more text"):
        read_recipe(raw_png((b"zTXt", bomb)), CATALOGUE)


def test_texts_that_add_up_to_too_much_are_refused() -> None:
    many = [(b"zTXt", b"k%d\0\0" % n + zlib.compress(b"x" * 1_000_000)) for n in range(80)]
    with pytest.raises(InvalidRequest, match="more text"):
        read_recipe(raw_png(*many), CATALOGUE)


def test_an_overlong_plain_text_is_left_out() -> None:
    with pytest.raises(InvalidRequest, match="no settings"):
        read(parameters="x" * (2**20 + 1))


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (60_000, 60_000)])
def test_a_bomb_of_pixels_is_refused_by_its_header(size: tuple[int, int]) -> None:
    started = time.thread_time()
    with pytest.raises(InvalidRequest, match="pixels"):
        read_recipe(raw_png(width=size[0], height=size[1]), CATALOGUE)
    assert time.thread_time() - started < 1


def test_the_largest_own_picture_is_not_refused() -> None:
    png = raw_png(
        (b"tEXt", b"croquis\0" + make_recipe().to_json().encode()), width=8192, height=8192
    )
    assert read_recipe(png, CATALOGUE).dialect == "Croquis"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Dear diary",
        b"\xff\xd8\xff\xe0 JFIF",
        b"GIF89a",
        b"\x89PNG",
        "prompt: x".encode("utf-16"),
    ],
)
def test_what_is_no_png_is_told_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    for png in (path, content):
        with pytest.raises(InvalidRequest, match="not a PNG"):
            read_recipe(png, CATALOGUE)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    with path.open("wb") as file:
        file.write(SIGNATURE)
        file.truncate(10**9)
    with pytest.raises(InvalidRequest, match="64 MiB"):
        read_recipe(path, CATALOGUE)


def test_a_file_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(InvalidRequest, match="could not be read"):
            read_recipe(path, CATALOGUE)


def test_pixels_are_never_decoded() -> None:
    good = encode_png(Image.new("RGB", (64, 64)), make_recipe())
    broken_pixels = good[: good.index(b"IDAT") + 6]
    assert read_recipe(broken_pixels, CATALOGUE).fields["seed"] == 7


def test_a_broken_png_is_an_invalid_request_and_nothing_else() -> None:
    """Thousands of broken files: cut, flipped, stuffed; each is read or refused in words."""
    dice = random.Random(1)
    good = encode_png(Image.new("RGB", (8, 8)), make_recipe(prompt="🦊 and a fox"))
    kinds = [b"zTXt", b"iTXt", b"tEXt", b"iCCP", b"pHYs", b"eXIf", b"acTL", b"fcTL", b"gAMA"]
    for _ in range(3000):
        content = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            content[dice.randrange(8, len(content))] = dice.randrange(256)
        if dice.random() < 0.3:
            content = content[: dice.randrange(8, len(content))]
        if dice.random() < 0.4:
            stuffing = dice.randbytes(dice.randint(0, 40))
            content = bytearray(raw_png((dice.choice(kinds), stuffing)))
        try:
            read_recipe(bytes(content), CATALOGUE)
        except InvalidRequest as exc:
            assert str(exc)


@pytest.mark.parametrize(
    ("settings", "syntax"),
    [
        ("", "a1111"),
        (", App: Croquis", "plain"),
        (", App: Croquis, Prompt syntax: a1111", "a1111"),
        (", App: Croquis, Prompt syntax: loud", None),
    ],
)
def test_brackets_mean_what_they_meant_where_they_were_written(
    settings: str, syntax: str | None
) -> None:
    found = read(parameters=f"a [red] fox\nSteps: 20, Seed: 5, Size: 64x64{settings}")
    assert found.fields.get("prompt_syntax") == syntax


def test_old_recipes_of_our_own_are_plain() -> None:
    recipe = {"request": {"prompt": "a [red] fox", "num_inference_steps": 5}}
    assert read(croquis=json.dumps(recipe)).fields["prompt_syntax"] == "plain"
