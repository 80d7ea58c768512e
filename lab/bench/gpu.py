"""Stable Diffusion 2 and XL with random weights on a GPU; as toys on any processor."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from lab.bench.checkpoints import save_sd2, save_sdxl
from lab.bench.crowd import draw_together, same_orders, varied
from lab.bench.effort import Effort
from lab.bench.house import House
from lab.bench.stage import BareScript, Stage
from lab.bench.stub import SIDE, small_catalogue
from lab.bench.table import Row, ratio_row
from lab.bench.timing import interleave
from pipelines.device import pick_device
from studio.settings import Settings

USERS = 8
STEPS = 25
OTHER = "sd2-other"
SIZES = {"sd2-512": ("sd2", 512), "sd2-768": ("sd2", 768), "sdxl-1024": ("sdxl", 1024)}
TOY_SIDES = {512: SIDE, 768: SIDE + 32, 1024: SIDE}
PLAIN_CALLS = {"acceleration": "eager"}
"""The setting that makes every call of a denoiser one by one, without graphs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """None is none."""

    plain: float | None = 1.03
    """One user without acceleration, over the bare script."""
    one: float | None = None
    """One user, over the bare script."""
    shared: float | None = None
    """Pictures per second of eight users, over the app's own serial plain calls."""
    bare: float | None = None
    """The same over the bare script."""


GOALS = {
    "sd2-512": Goals(one=0.65, shared=2.5, bare=2.5),
    "sd2-768": Goals(one=0.95, shared=1.3),
    "sdxl-1024": Goals(shared=1.05),
}


class NoGpu(RuntimeError):
    """There is none, and no toys were asked for."""


@contextmanager
def gpu_stages(effort: Effort, toy: bool) -> Iterator[dict[str, Stage]]:
    """The stages by model and size; their checkpoints are there inside the block.

    Raises:
        NoGpu: there is none.
    """
    if not toy and not torch.cuda.is_available():
        raise NoGpu("There is no GPU here that torch sees; --toy rehearses on the processor.")
    with TemporaryDirectory(prefix="croquis-gpu-") as folder:
        settings = _settings(Path(folder), toy)
        catalogue = small_catalogue(settings, {OTHER: "sd2"})
        stages = {}
        for name, (model, side) in SIZES.items():
            side = TOY_SIDES[side] if toy else side
            request = replace(
                catalogue.default_request(model, "a cup"),
                width=side,
                height=side,
                num_inference_steps=effort.steps or STEPS,
                prompt_syntax="plain",
            )
            stages[name] = Stage(
                title=f"{name.upper().replace('-', ' ')}{', toy' if toy else ''}",
                settings=settings,
                catalogue=catalogue,
                request=request,
                other=replace(request, model=OTHER),
            )
        yield stages


def _settings(folder: Path, toy: bool) -> Settings:
    """Write the checkpoints, and settings that find them."""
    device = "cpu" if toy else pick_device(Settings())
    made = (torch.device(device), torch.float32 if toy else torch.float16)
    places = {
        "sd2": save_sd2(folder / "sd2", made, toy=toy),
        OTHER: save_sd2(folder / OTHER, made, toy=toy, seed=1),
        "sdxl": save_sdxl(folder / "sdxl", made, toy=toy),
    }
    threads = 1 if toy else None
    return Settings(device=device, cpu_threads=threads, offline=True, model_paths=places)


def measure_tiers(stage: Stage, effort: Effort, goals: Goals) -> list[Row]:
    """The bare script, plain calls, the app for one, and the app for eight, in turns."""
    numbers = itertools.count(step=USERS * effort.each)
    script = BareScript(stage)

    def seconds_each(house: House, users: int, each: int) -> float:
        orders = same_orders(stage.request, users, each, next(numbers))
        return draw_together(house, orders) / (users * each)

    with stage.open(**PLAIN_CALLS) as plain, stage.open() as house:
        taken = interleave(
            {
                "bare": lambda: script.time(varied(stage.request, next(numbers))),
                "plain": lambda: seconds_each(plain, 1, 1),
                "one": lambda: seconds_each(house, 1, 1),
                "many": lambda: seconds_each(house, USERS, effort.each),
            },
            effort.rounds,
            1 + effort.warm_ups,
        )
    bare, plain_calls, one, many = (taken[name] for name in ("bare", "plain", "one", "many"))
    title, users = stage.title, f"{USERS} users, pictures per second"
    more = {"at_least": True, "remark": "seconds a picture"}
    return [
        ratio_row(
            f"{title}: one user by plain calls / bare script", plain_calls, bare, goals.plain
        ),
        ratio_row(f"{title}: one user / bare script", one, bare, goals.one),
        ratio_row(
            f"{title}: {users} / serial plain calls", plain_calls, many, goals.shared, **more
        ),
        ratio_row(f"{title}: {users} / bare script", bare, many, goals.bare, **more),
    ]
