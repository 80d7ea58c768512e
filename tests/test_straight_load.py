"""Weights that are read straight to the device they work on are the same weights.

diffusers does the same for a CPU as for a GPU, where Croquis asks for it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_families.house import family_catalogue, family_settings

from pipelines.families import one_call
from pipelines.loader import LoadedModel, Loader
from pipelines.parking import can_wait


def load(key: str) -> LoadedModel:
    settings = family_settings(key)
    loader = Loader(settings)
    return loader.load(loader.find(family_catalogue(settings).get_model(key), print))


def weights_of(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    parts = loaded.pipeline.components.items()
    modules = {name: part for name, part in parts if isinstance(part, torch.nn.Module)}
    return {
        f"{name}.{key}": tensor
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }


@pytest.mark.parametrize("key", ["sd2", "sd15-lcm", "sdxl", "sdxl-refiner", "sd-x4-upscaler"])
def test_the_weights_are_the_same_and_nothing_is_hooked(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = weights_of(load(key))
    asked: list[Any] = []
    real = one_call.DiffusionPipeline.from_pretrained.__func__

    def from_pretrained(cls: type, *args: object, **kwargs: Any) -> object:
        asked.append(kwargs["device_map"])
        return real(cls, *args, **kwargs)

    monkeypatch.setattr(one_call.DiffusionPipeline, "from_pretrained", classmethod(from_pretrained))
    monkeypatch.setattr(one_call, "STRAIGHT", ("cpu",))
    loaded = load(key)
    straight = weights_of(loaded)
    assert asked == ["cpu"]
    assert straight.keys() == plain.keys()
    assert all(torch.equal(straight[name], tensor) for name, tensor in plain.items())
    assert {tensor.dtype for tensor in straight.values()} == {t.dtype for t in plain.values()}
    assert can_wait(loaded)
    loaded.pipeline.to("cpu")  # which diffusers refuses where modules are spread over devices
