"""Which of our schedulers another program means by the name of its sampler."""

from __future__ import annotations

from collections.abc import Mapping

from studio.specs import SchedulerSpec

_SAME = {
    "euler_ancestral": "euler_a",
    "dpm_2": "kdpm2",
    "kdpm_2": "kdpm2",
    "dpm_2_ancestral": "kdpm2_a",
    "kdpm_2_a": "kdpm2_a",
    "plms": "pndm",
    "uni_pc": "unipc",
    "uni_pc_bh2": "unipc",
}
"""Names in ComfyUI, Fooocus, SwarmUI, InvokeAI and NovelAI -> our keys, where they differ."""

_AUTOMATIC = {"dpm++ 2m": "karras", "dpm++ sde": "karras"}
"""What AUTOMATIC1111's schedule type "Automatic" stands for, where it is a type of its own."""

_PLAIN = {"", "none", "normal", "simple", "uniform", "native", "automatic"}


def find_scheduler(
    schedulers: Mapping[str, SchedulerSpec], sampler: str, schedule: str
) -> tuple[str | None, bool]:
    """The key of the scheduler, or None, and whether its schedule type is the right one too."""
    sampler, schedule = sampler.strip().lower(), schedule.strip().lower().replace("_", " ")
    if schedule == "automatic":
        schedule = _AUTOMATIC.get(sampler, "")
    if sampler.endswith(" karras"):
        sampler, schedule = sampler.removesuffix(" karras"), "karras"
    base = _base(sampler)
    if base.endswith("_k"):
        base, schedule = base.removesuffix("_k"), "karras"
    for key, spec in schedulers.items():
        own = (spec.a1111_schedule or "").lower()
        named = spec.a1111.lower() == sampler or key.removesuffix("_karras") == base
        if named and own == ("" if schedule in _PLAIN else schedule):
            return key, True
    plain = [
        key for key, spec in schedulers.items() if base == key or spec.a1111.lower() == sampler
    ]
    return (plain[0] if plain else None), False


def _base(sampler: str) -> str:
    """A sampler's name in the style of our keys: k_euler_ancestral -> euler_a."""
    name = sampler.removeprefix("k_").removesuffix("_gpu")
    return _SAME.get(name, name)
