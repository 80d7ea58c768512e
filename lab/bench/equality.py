"""Whether the pictures are the same: alone, after a switch, replayed from graphs, in company."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from lab.bench.apart import on_a_thread_that_ends
from lab.bench.crowd import varied
from lab.bench.effort import Effort
from lab.bench.house import House
from lab.bench.stage import BareScript, Stage, draw_bare, load_as_the_app_does
from lab.bench.table import Row, missing_row
from pipelines.schedulers import build_scheduler, seed_noise
from studio.request import GenerationRequest

LEAST_DB = 40.0
SCHEDULERS = ("euler", "euler_a", "dpmpp_2m", "ddim", "unipc", "dpmpp_2m_sde_karras")
GUIDANCE = (3.0, 5.0, 7.5)
FEW = 6
"""Pictures of the rows that need not be many: bits are equal or not."""

Picture = np.ndarray
"""(height, width, 3) uint8."""


def psnr(one: Picture, other: Picture) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal pictures."""
    error = np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def measure_equality(stage: Stage, effort: Effort, replaying: Stage | None = None) -> list[Row]:
    """Compare pictures of many settings; `replaying` is the stage whose engine uses graphs."""
    requests = mixed_requests(stage, effort)
    few = requests[:FEW]
    plain = [varied(stage.request, number) for number in range(FEW)]
    with stage.open() as house:
        alone = [house.pixels(replace(one, exact=True)) for one in requests]
        usual = [house.pixels(one) for one in plain]
        house.draw(stage.other)
        after = [house.pixels(one) for one in few]
        together = _all_at_once(house, requests, effort.users)
    card = on_a_thread_that_ends(lambda: _by_the_script(stage, plain))
    direct = on_a_thread_that_ends(lambda: _direct(stage, few))
    title = stage.title
    return [
        _equal_row(f"{title}: alone, equal to diffusers' own call", alone, direct),
        _equal_row(f"{title}: after a switch, equal to before", after, alone),
        _graphs_row(stage, replaying, few, alone),
        _close_row(f"{title}: in company, PSNR of 40 dB or more to alone", together, alone, 95),
        _close_row(f"{title}: alone, the same to the script of the card", usual, card, None),
    ]


def mixed_requests(stage: Stage, effort: Effort) -> list[GenerationRequest]:
    """Pictures that differ in prompt, seed, steps, scheduler and guidance."""
    usable = [
        key for key in SCHEDULERS if key in stage.catalogue.schedulers_of(stage.request.model)
    ]
    steps = stage.request.num_inference_steps
    return [
        replace(
            varied(stage.request, number),
            scheduler=usable[number % len(usable)],
            num_inference_steps=max(3, steps - number % 4),
            guidance_scale=GUIDANCE[number % len(GUIDANCE)],
        )
        for number in range(effort.compared)
    ]


def _all_at_once(house: House, requests: Sequence[GenerationRequest], users: int) -> list[Picture]:
    """Draw in company, in the order of the requests."""

    def draw_own(user: int) -> list[Picture]:
        return [house.pixels(one, f"user-{user}") for one in requests[user::users]]

    with ThreadPoolExecutor(users) as pool:
        of_user = list(pool.map(draw_own, range(users)))
    return [of_user[number % users][number // users] for number in range(len(requests))]


def _by_the_script(stage: Stage, requests: Sequence[GenerationRequest]) -> list[Picture]:
    script = BareScript(stage)
    return [np.array(script.draw(one)) for one in requests]


def _direct(stage: Stage, requests: Sequence[GenerationRequest]) -> list[Picture]:
    """Call diffusers' pipeline, loaded by the app's rules, with the scheduler of each request."""
    loaded = load_as_the_app_does(stage)
    pictures = []
    for one in requests:
        spec = stage.catalogue.get_scheduler(one.scheduler)
        scheduler = build_scheduler(spec, loaded.scheduler_config)
        seed_noise(scheduler, [one.seed])
        loaded.pipeline.scheduler = scheduler
        pictures.append(np.array(draw_bare(loaded.pipeline, one)))
    return pictures


def _graphs_row(
    stage: Stage,
    replaying: Stage | None,
    requests: Sequence[GenerationRequest],
    alone: Sequence[Picture],
) -> Row:
    what = f"{stage.title}: by CUDA graphs, equal to plain calls"
    if replaying is None:
        return missing_row(what, "CUDA graphs need a GPU", goal=100, at_least=True, unit="%")
    with replaying.open() as house:
        for one in requests:
            house.draw(one)  # the calls are recorded
        return _equal_row(what, [house.pixels(one) for one in requests], alone)


def _equal_row(what: str, pictures: Sequence[Picture], others: Sequence[Picture]) -> Row:
    pairs = list(zip(pictures, others, strict=False))
    equal = sum(np.array_equal(one, other) for one, other in pairs)
    return Row(
        what=what,
        value=100 * equal / len(pairs),
        unit="%",
        goal=100,
        at_least=True,
        remark=f"{len(pairs)} pictures, bit by bit",
    )


def _close_row(
    what: str, pictures: Sequence[Picture], others: Sequence[Picture], goal: float | None
) -> Row:
    found = [psnr(one, other) for one, other in zip(pictures, others, strict=True)]
    return Row(
        what=what,
        value=100 * sum(one >= LEAST_DB for one in found) / len(found),
        unit="%",
        goal=goal,
        at_least=True,
        remark=f"{len(found)} pictures, worst {min(found):.1f} dB, "
        f"median {statistics.median(found):.1f} dB",
    )
