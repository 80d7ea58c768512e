"""Many users: what they gain by sharing steps, and what a late one waits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from lab.bench.crowd import LateVisitor, Orders, draw_together, same_orders, varied
from lab.bench.effort import Effort
from lab.bench.house import House
from lab.bench.stage import Stage
from lab.bench.table import Row, ratio_row
from lab.bench.timing import Samples, interleave, noise_of
from studio.request import GenerationRequest

SCHEDULERS = ("euler", "dpmpp_2m", "euler_a", "ddim")
"""Those that call the model once a step; more would be other work, not mixed work."""


def measure_sharing(
    stage: Stage, effort: Effort, goal: float | None, remark: str = "seconds a picture"
) -> list[Row]:
    """Pictures per second of many users over those of one."""
    starts = itertools.count(step=effort.users * effort.each)
    alone = max(2, effort.users * effort.each // 8)

    with stage.open() as house:

        def seconds_each(users: int, each: int) -> float:
            orders = same_orders(stage.request, users, each, next(starts))
            return draw_together(house, orders) / (users * each)

        taken = interleave(
            {
                "one": lambda: seconds_each(1, alone),
                "many": lambda: seconds_each(effort.users, effort.each),
            },
            effort.long_rounds,
            effort.warm_ups,
        )
    what = f"{stage.title}: {effort.users} users, pictures per second / one user's"
    return [ratio_row(what, taken["one"], taken["many"], goal, at_least=True, remark=remark)]


def measure_mixing(stage: Stage, effort: Effort) -> list[Row]:
    """Three pictures for each user: of one step count and scheduler, or of three and four.

    Every user has as many steps in both arms, and as many pictures: without a price for mixing
    both take the same time.
    """
    starts = itertools.count(step=1000)
    with stage.open() as house:
        taken = interleave(
            {
                "same": lambda: draw_together(
                    house, _orders(stage, effort, next(starts), mix=False)
                ),
                "mixed": lambda: draw_together(
                    house, _orders(stage, effort, next(starts), mix=True)
                ),
            },
            effort.longest_rounds,
        )
    what = f"{stage.title}: {effort.users} users with mixed steps and schedulers keep"
    remark = "of the same-shape throughput"
    return [ratio_row(what, taken["same"], taken["mixed"], 0.9, at_least=True, remark=remark)]


def measure_waiting(stage: Stage, effort: Effort) -> list[Row]:
    """95th percentile of what a visitor waits behind another's jobs, over the same alone."""
    with stage.open() as house:
        alone, behind = _waits(stage, effort, house)
    noise = noise_of(alone, behind)
    return [
        Row(
            what=f"{stage.title}: p95 wait behind {effort.backlog} jobs of one visitor / alone",
            value=behind.p95 / alone.p95,
            goal=2.5,
            slack=2.5 * (noise - 1),
            noise=noise,
            remark=f"{behind.p95:.3g} s / {alone.p95:.3g} s, {len(alone.values)} visits each",
        )
    ]


def _waits(stage: Stage, effort: Effort, house: House) -> tuple[Samples, Samples]:
    house.draw(varied(stage.request, 0))
    late = LateVisitor(house, stage.request, pause_s=house.draw(varied(stage.request, 1)))
    late.waits_behind(effort.backlog, 1)
    alone: list[float] = []
    behind: list[float] = []
    for _ in range(effort.long_rounds):
        alone += late.waits_alone(effort.visits)
        behind += late.waits_behind(effort.backlog, effort.visits)
        behind += late.waits_behind(effort.backlog, effort.visits)
        alone += late.waits_alone(effort.visits)
    return Samples(tuple(alone)), Samples(tuple(behind))


def _orders(stage: Stage, effort: Effort, start: int, mix: bool) -> Orders:
    """The same orders, or each user's at another place in the rings of steps and schedulers."""
    same = same_orders(stage.request, effort.users, 3, start)
    if not mix:
        return same
    return {
        owner: [_changed(stage, request, user, turn) for turn, request in enumerate(requests)]
        for user, (owner, requests) in enumerate(same.items())
    }


def _changed(stage: Stage, request: GenerationRequest, user: int, turn: int) -> GenerationRequest:
    usable = [key for key in SCHEDULERS if key in stage.catalogue.schedulers_of(request.model)]
    steps = mixed_steps(request.num_inference_steps)
    return replace(
        request,
        num_inference_steps=steps[(user + turn) % len(steps)],
        scheduler=usable[(user + turn) % len(usable)],
    )


def mixed_steps(steps: int) -> Sequence[int]:
    """Three step counts, their mean being `steps`: half of it, as it is, and half as many again."""
    half = steps // 2
    return half, steps, 2 * steps - half
