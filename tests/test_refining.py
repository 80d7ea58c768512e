"""SDXL's refiner draws the last steps: in order, stopped in either model, the same each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tiny_families.house import family_catalogue, family_manager, family_request, family_settings
from tiny_house import RecordingWatcher

from pipelines.drawing import draw
from studio.errors import Cancelled
from studio.request import GenerationRequest


def refined(request: GenerationRequest, watcher: RecordingWatcher) -> np.ndarray:
    catalogue = family_catalogue(family_settings("sdxl", "sdxl-refiner"))
    manager = family_manager("sdxl", "sdxl-refiner")
    scheduler = catalogue.get_scheduler(request.scheduler)
    with manager.borrow("sdxl") as base, manager.borrow("sdxl-refiner") as refiner:
        model = refiner if request.refiner else None
        [drawn] = draw(base, scheduler, request, [0], watcher, refiner=model)
    assert isinstance(drawn.image, Image.Image)
    return np.asarray(drawn.image)


@pytest.mark.parametrize(
    ("scheduler", "calls"), [("euler", 10), ("heun", 19), ("dpmpp_2m_karras", 10)]
)
def test_both_models_share_the_steps(scheduler: str, calls: int) -> None:
    request = replace(
        family_request("sdxl"), scheduler=scheduler, num_inference_steps=10, refiner=True
    )
    watcher = RecordingWatcher()
    picture = refined(request, watcher)
    steps = [step for step, _, _ in watcher.steps]
    assert steps == list(range(len(steps)))
    assert {total for _, total, _ in watcher.steps} == {steps[-1]}
    assert abs(steps[-1] - calls) <= 1  # a call more where the models change in mid-step
    assert watcher.previews
    assert np.array_equal(picture, refined(request, RecordingWatcher()))
    assert not np.array_equal(picture, refined(replace(request, refiner=False), watcher))


@pytest.mark.parametrize("cancel_at", [2, 9])
def test_either_model_stops_within_a_step(cancel_at: int) -> None:
    request = replace(family_request("sdxl"), num_inference_steps=10, refiner=True)
    watcher = RecordingWatcher(cancel_at=cancel_at)
    with pytest.raises(Cancelled):
        refined(request, watcher)
    assert len(watcher.steps) == cancel_at + 1
