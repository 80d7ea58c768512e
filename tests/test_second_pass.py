"""A second pass over finished drawings: flaws, several at once, sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_families.house import draw_family, drawn_images, family_manager, family_request
from tiny_families.unets import save_sd1
from tiny_house import RecordingWatcher

from pipelines.manager import PipelineManager
from pipelines.safety import Flaw
from studio.ingredients import SecondPass

AGAIN = SecondPass(scale=1.5, strength=0.5)


@pytest.fixture(scope="module")
def manager() -> PipelineManager:
    return family_manager("sd14", "sd2")


def test_a_flagged_drawing_is_not_drawn_over(tmp_path: Path) -> None:
    strict = family_manager("sd14", folders={"sd14": save_sd1(tmp_path, flags_everything=True)})
    watcher = RecordingWatcher()
    request = family_request("sd14", second_pass=AGAIN, scheduler="euler")
    assert drawn_images(strict, request, watcher) == [Flaw.HELD_BACK]
    assert len(watcher.steps) == 1 + 4


def test_a_broken_drawing_is_not_drawn_over(manager: PipelineManager) -> None:
    with manager.borrow("sd2") as loaded:
        decoder = loaded.pipeline.vae.decoder

    def break_once(module: object, inputs: object, pixels: torch.Tensor) -> None:
        hook.remove()
        pixels.fill_(float("nan"))

    hook = decoder.register_forward_hook(break_once)
    assert drawn_images(manager, family_request("sd2", second_pass=AGAIN)) == [Flaw.BROKEN]


def test_progress_counts_the_second_pass_of_each_picture_drawn_at_once(
    manager: PipelineManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.drawing.picks_batches", lambda device: True)
    watcher = RecordingWatcher()
    request = family_request("sd2", second_pass=AGAIN, num_images=3, scheduler="euler")
    pictures = draw_family(manager, request, watcher)
    assert [picture.shape for picture in pictures] == [(96, 96, 3)] * 3
    assert watcher.steps == [(step, 4 + 3 * 2, 0) for step in range(4 + 3 * 2 + 1)]
    alone = draw_family(manager, replace(request, seed=8, num_images=1))[0]
    assert np.abs(np.subtract(pictures[1], alone, dtype=int)).max() <= 2


def test_its_size_is_one_that_the_model_can_draw(manager: PipelineManager) -> None:
    request = family_request("sd2", second_pass=SecondPass(scale=1.3))  # 83.2 px
    assert draw_family(manager, request)[0].shape == (80, 80, 3)
    coarse = family_manager("sd2", multiple_of=32)
    assert draw_family(coarse, request)[0].shape == (96, 96, 3)
