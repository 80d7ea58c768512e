"""Parking on a real GPU: pinned memory, the device's memory given back, the same bits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_families.house import draw_family, family_catalogue, family_request, family_settings

from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from pipelines.parking import pick_parking

pytestmark = pytest.mark.gpu


def test_a_model_leaves_the_gpu_and_comes_back_from_pinned_memory() -> None:
    settings = replace(family_settings("sd2", "sdxl"), device="cuda")
    parking = pick_parking("cuda", settings)
    assert parking is not None
    catalogue = family_catalogue(settings)
    manager = PipelineManager(catalogue, Loader(settings), budget_bytes=1, parking=parking)
    requests = [family_request(key, scheduler="euler") for key in ("sd2", "sdxl")]
    first = [draw_family(manager, request)[0].tobytes() for request in requests]
    kept = parking._kept["sd2"].pipeline.unet
    assert all(weight.is_pinned() for weight in kept.parameters())
    for request, pixels in zip(requests * 2, first * 2, strict=True):
        assert draw_family(manager, request)[0].tobytes() == pixels
        with manager.borrow(request.model) as loaded:
            devices = {weight.device.type for weight in loaded.pipeline.unet.parameters()}
            assert devices == {"cuda"}
    del loaded
    before = torch.cuda.memory_allocated()
    for _ in range(10):
        for request in requests:
            with manager.borrow(request.model):
                pass
    assert torch.cuda.memory_allocated() <= before
