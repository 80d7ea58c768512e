"""Signs and long prompts beside taught words, a control picture, a reference and a mask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_adapters import House, open_house, save_control, save_embedding, save_reference
from tiny_families.house import PICTURE, family_manager, family_request, start_for

from studio.ingredients import Control, Reference, SecondPass
from studio.request import GenerationRequest

BASES = {"sd15": "sd1", "sdxl": "sdxl"}
LONG = "a cat on a mat, " * 9
ADDED = {
    "control": {"control": Control(kind="canny", picture=PICTURE)},
    "reference": {"reference": Reference(picture=PICTURE)},
    "both": {
        "control": Control(kind="canny", picture=PICTURE),
        "reference": Reference(picture=PICTURE),
    },
    "mask": {"start": start_for("inpainting")},
    "margins": {"start": start_for("outpainting")},
    "second pass": {"second_pass": SecondPass(scale=1.5)},
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder, guides = tmp_path_factory.mktemp("house"), {}
    for key, base in BASES.items():
        with family_manager(key).borrow(key) as loaded:
            guides[f"{key} control"] = save_control(loaded, folder / f"control-{key}", base)
            guides[f"{key} reference"] = save_reference(loaded, folder / f"ip-{key}", base)
    return open_house(folder, *BASES, guides=guides)


def signed(key: str, prompt: str, **changes: object) -> GenerationRequest:
    return family_request(key, prompt=prompt, prompt_syntax="a1111", **changes)


@pytest.mark.parametrize("what", ADDED)
@pytest.mark.parametrize("key", BASES)
def test_words_change_and_long_prompts_are_read(house: House, key: str, what: str) -> None:
    first, changing, long = (
        house.draw(signed(key, prompt, **ADDED[what]))
        for prompt in ("a (fox)", "a [(fox)|hen]", LONG)
    )
    cut = house.draw(family_request(key, prompt=LONG, **ADDED[what]))
    assert not np.array_equal(first, changing)
    assert not np.array_equal(long, cut)
    assert min(picture.std() for picture in (first, changing, long)) > 0


@pytest.mark.parametrize("key", BASES)
def test_taught_words_can_be_weighed(house: House, tmp_path: Path, key: str) -> None:
    numbers = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    own = (
        {"clip_l": numbers, "clip_g": numbers.flip(0)} if key == "sdxl" else {"emb_params": numbers}
    )
    source = house.keep(save_embedding(tmp_path / "moss.safetensors", own))
    plain = house.draw(family_request(key, prompt="a moss fox", embeddings=(source,)))
    same, weighed, untaught = (
        house.draw(replace(signed(key, prompt), embeddings=embeddings))
        for prompt, embeddings in (
            ("a moss fox", (source,)),
            ("a (moss:1.6) fox", (source,)),
            ("a (moss:1.6) fox", ()),
        )
    )
    assert np.array_equal(plain, same)
    assert not np.array_equal(plain, weighed)
    assert not np.array_equal(weighed, untaught)
