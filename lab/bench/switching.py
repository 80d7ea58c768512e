"""From one model to another: what it costs, and that the memory does not grow."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable
from dataclasses import replace

import psutil
import torch

from lab.bench.apart import on_a_thread_that_ends
from lab.bench.crowd import varied
from lab.bench.effort import Effort
from lab.bench.house import House
from lab.bench.stage import BareScript, Stage
from lab.bench.table import Row, missing_row
from lab.bench.timing import Samples, interleave, trend_of
from pipelines.device import release_memory
from studio.request import GenerationRequest

STEPS = 2
"""Of the pictures between switches: what is looked for must not drown in the drawing."""
MORE = 4
"""Rounds where a difference of two medians is looked for, which is small."""
ONE_MODEL_GB = 1e-3
"""A budget that no model fits into: one is kept all the same, so every switch takes another's."""
MEGABYTE = 2**20


def measure_switching(stage: Stage, effort: Effort) -> list[Row]:
    """What a picture takes longer when another model drew before, over loading from disk."""
    pictures = _Pictures(stage)
    with stage.open() as house:
        taken = interleave(
            {
                "steady": lambda: pictures.seconds_after(house, pictures.first),
                "switched": lambda: pictures.seconds_after(house, pictures.other),
            },
            MORE * effort.rounds,
        )
        taken |= interleave(
            {
                "evicted": lambda: pictures.seconds_after_eviction(house),
                "cold": lambda: _seconds_to_load(stage),
            },
            effort.rounds,
        )
    steady, cold = taken["steady"], taken["cold"]
    return [
        _switch_row(stage, "warm switch", taken["switched"], steady, cold, 0.02),
        _ram_row(stage, effort, cold),
        _switch_row(stage, "the app's own load from disk", taken["evicted"], steady, cold, None),
    ]


def measure_growth(stage: Stage, effort: Effort) -> list[Row]:
    """Switch back and forth between two models of which only one may stay loaded."""
    pictures = _Pictures(stage)
    gauges = _gauges(stage)
    seen: dict[str, list[float]] = {name: [] for name in gauges}
    warm_up = max(2, effort.switches // 10)
    with stage.open(memory_budget_gb=ONE_MODEL_GB) as house:
        for turn in range((warm_up + effort.switches) // 2):
            pictures.seconds_after(house, pictures.other)
            release_memory()
            if 2 * turn >= warm_up:
                for name, gauge in gauges.items():
                    seen[name].append(gauge() / MEGABYTE)
    return [_growth_row(stage, effort, name, values) for name, values in seen.items()]


class _Pictures:
    """Short pictures of two models, each another one."""

    def __init__(self, stage: Stage) -> None:
        self.first = replace(stage.request, num_inference_steps=STEPS)
        self.other = replace(stage.other, num_inference_steps=STEPS)
        self._numbers = itertools.count()

    def seconds_after(self, house: House, before: GenerationRequest) -> float:
        """Seconds of a picture of the first model, drawn after one of `before`."""
        house.draw(self._next(before))
        return house.draw(self._next(self.first))

    def seconds_after_eviction(self, house: House) -> float:
        """The same when the first model was freed, and lies on the disk (read before)."""
        house.draw(self._next(self.first))
        while not house.manager.evict(self.first.model):
            time.sleep(0.001)  # the engine gives it back a moment after the picture is there
        return house.draw(self._next(self.first))

    def _next(self, request: GenerationRequest) -> GenerationRequest:
        return varied(request, next(self._numbers))


def _seconds_to_load(stage: Stage) -> float:
    seconds = on_a_thread_that_ends(lambda: BareScript(stage).load_s)
    release_memory()
    return seconds


def _switch_row(
    stage: Stage, how: str, switched: Samples, steady: Samples, cold: Samples, goal: float | None
) -> Row:
    """The noise is what the steady picture's halves differ by."""
    noise_s = max(abs(left - right) for left, right in (steady.halves, switched.halves))
    seconds = f"({switched.median:.3g} s - {steady.median:.3g} s) / {cold.median:.3g} s"
    return Row(
        what=f"{stage.title}: {how} / bare from_pretrained",
        value=(switched.median - steady.median) / cold.median,
        goal=goal,
        slack=noise_s / cold.median,
        remark=f"{seconds}, noise {noise_s / cold.median:.3f}",
    )


def _ram_row(stage: Stage, effort: Effort, cold: Samples) -> Row:
    what = f"{stage.title}: switch from RAM / bare from_pretrained"
    if not stage.device.startswith("cuda"):
        return missing_row(
            what, "on a CPU loaded models are in RAM: it is the row above", goal=0.15
        )
    pictures = _Pictures(stage)
    with stage.open(memory_budget_gb=ONE_MODEL_GB) as house:
        taken = interleave(
            {
                "steady": lambda: pictures.seconds_after(house, pictures.first),
                "switched": lambda: pictures.seconds_after(house, pictures.other),
            },
            MORE * effort.rounds,
        )
    return _switch_row(stage, "switch from RAM", taken["switched"], taken["steady"], cold, 0.15)


def _gauges(stage: Stage) -> dict[str, Callable[[], float]]:
    """What counts memory, in bytes."""

    def own_memory() -> float:
        gc.collect()
        return float(psutil.Process().memory_info().rss)

    gauges: dict[str, Callable[[], float]] = {"memory of the program": own_memory}
    if stage.device.startswith("cuda"):
        gauges["memory of the GPU"] = lambda: float(torch.cuda.memory_allocated())
    return gauges


def _growth_row(stage: Stage, effort: Effort, name: str, values: list[float]) -> Row:
    """Nothing may grow; what the allocator keeps for later comes and goes, and is the noise."""
    what = f"{stage.title}: growth of the {name} over {effort.switches} switches"
    trend = trend_of(values)
    return Row(
        what=what,
        value=trend.growth,
        unit="MB",
        goal=0,
        slack=trend.spread,
        remark=f"allocator's noise {trend.spread:.3g} MB, {values[-1]:.0f} MB in the end",
    )
