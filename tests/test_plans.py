"""How a model is held: the fastest way that fits, and said before it is chosen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_studio import make_catalogue

from studio.plans import Machine, pick_plan

LARGE = replace(
    make_catalogue().get_model("sd2"), memory_gb=30.0, memory_offload_gb=12.0, download_gb=24.0
)


@pytest.mark.parametrize(
    ("kind", "device_gb", "ram_gb", "holding"),
    [
        ("cuda", 80, 64, "full"),
        ("cuda", 24, 64, "offload"),
        ("cuda", 8, 64, "group"),
        ("cuda", 4, 64, "none"),
        ("cuda", 24, 16, "none"),  # the parts that wait do not fit into the machine
        ("mps", 64, 64, "full"),
        ("mps", 24, 64, "none"),
        ("cpu", 96, 96, "full"),
        ("cpu", 64, 64, "none"),  # twice as much in 32-bit numbers
    ],
)
def test_the_fastest_way_that_fits(
    kind: str, device_gb: float, ram_gb: float, holding: str
) -> None:
    plan = pick_plan(LARGE, Machine(kind=kind, device_gb=device_gb, ram_gb=ram_gb))
    assert plan.holding == holding
    assert bool(plan.label) == (holding != "full")


def test_what_cannot_be_offloaded_is_not() -> None:
    fixed = replace(LARGE, can_offload=False)
    plan = pick_plan(fixed, Machine(kind="cuda", device_gb=24, ram_gb=64))
    assert plan.holding == "none"
    assert "12 GB" in plan.label


def test_the_built_in_model_fits_a_small_machine() -> None:
    builtin = make_catalogue().get_model("builtin")
    small = Machine(kind="cpu", device_gb=1, ram_gb=1)
    assert pick_plan(builtin, small).holding == "full"
