"""Safety: no black square without a word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from tiny_house import (
    RecordingWatcher,
    checkpoint,
    tiny_catalogue,
    tiny_manager,
    tiny_request,
    tiny_settings,
)
from transformers import CLIPConfig
from transformers.models.clip import CLIPImageProcessorPil

from pipelines.drawing import draw
from pipelines.safety import Flaw, find_flaw, note_on, nothing_left
from studio.errors import Unsafe


def test_a_nearly_black_picture_passes() -> None:
    pixels = np.zeros((8, 8, 3), np.float32)
    pixels[3, 3, 1] = 0.01
    assert find_flaw(pixels, is_flagged=False) is None


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_picture_that_was_not_drawn_is_broken(value: float) -> None:
    pixels = np.full((8, 8, 3), value, np.float32)
    assert find_flaw(pixels, is_flagged=False) is Flaw.BROKEN
    assert find_flaw(pixels, is_flagged=True) is Flaw.HELD_BACK


def test_the_texts_count_from_one() -> None:
    assert "held picture 3 back" in note_on(Flaw.HELD_BACK, 2)
    assert "held the picture back" in str(nothing_left([Flaw.HELD_BACK]))
    assert "only black for all 4 pictures. " in str(nothing_left([Flaw.BROKEN] * 4))


def test_several_flaws_are_told_together() -> None:
    error = nothing_left([Flaw.BROKEN, Flaw.HELD_BACK, Flaw.BROKEN])
    assert isinstance(error, Unsafe)
    assert "only black for 2 of 3 pictures. " in str(error)
    assert "held 1 of 3 pictures back. " in str(error)


def checkpoint_with_checker(folder: Path, *, flags_all: bool) -> Path:
    """A tiny checkpoint with diffusers' own safety checker, which flags every picture or none."""
    vision = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
        "projection_dim": 8,
    }
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(projection_dim=8, vision_config=vision, text_config={"hidden_size": 8})
    ).eval()
    threshold = -2.0 if flags_all else 2.0
    for weights in (checker.concept_embeds_weights, checker.special_care_embeds_weights):
        weights.data.fill_(threshold)  # cosines lie between -1 and 1
    pipeline = StableDiffusionPipeline.from_pretrained(
        checkpoint("mini"),
        safety_checker=checker,
        feature_extractor=CLIPImageProcessorPil(size=32, crop_size=32),
    )
    pipeline.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("flags_all", [True, False])
def test_a_flagged_picture_is_held_back(tmp_path: Path, flags_all: bool) -> None:
    folder = checkpoint_with_checker(tmp_path / "checked", flags_all=flags_all)
    settings = tiny_settings({"checked": folder})
    with tiny_manager(settings).borrow("checked") as loaded:
        assert isinstance(loaded.pipeline.safety_checker, StableDiffusionSafetyChecker)
        spec = tiny_catalogue().get_scheduler("euler")
        [drawn] = draw(loaded, spec, tiny_request(), [0], RecordingWatcher())
    assert drawn.index == 0
    assert (drawn.image is Flaw.HELD_BACK) == flags_all
