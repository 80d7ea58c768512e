"""One user: what the studio adds to the bare script, and what previews cost."""

from __future__ import annotations

import itertools

from lab.bench.apart import script_apart
from lab.bench.crowd import varied
from lab.bench.effort import Effort
from lab.bench.stage import Stage
from lab.bench.table import Row, ratio_row
from lab.bench.timing import Samples, interleave


def measure_overhead(stage: Stage, effort: Effort, goal: float | None = None) -> list[Row]:
    """The whole request, kept as a file and in the database, over the script of the card."""
    numbers = itertools.count()
    with script_apart(stage) as script, stage.open() as house:
        taken = interleave(
            {
                "ours": lambda: house.draw(varied(stage.request, next(numbers))),
                "bare": lambda: script.time(varied(stage.request, next(numbers))),
            },
            effort.rounds,
        )
    what = f"{stage.title}: one user, whole request / bare script of the card"
    return [ratio_row(what, taken["ours"], taken["bare"], goal)]


def measure_previews(stage: Stage, effort: Effort) -> list[Row]:
    """When the first preview comes, and how much longer a picture takes with previews."""
    numbers, first = itertools.count(), []

    with stage.open() as house:

        def with_previews() -> float:
            watched = house.watch(varied(stage.request, next(numbers)))
            if watched.first_preview_s is not None:
                first.append(watched.first_preview_s / watched.total_s)
            return watched.total_s

        taken = interleave(
            {
                "with": with_previews,
                "without": lambda: house.draw_unseen(varied(stage.request, next(numbers))),
            },
            effort.rounds,
        )
    cost = f"{stage.title}: a picture with previews / without"
    return [_first_row(stage, first), ratio_row(cost, taken["with"], taken["without"], 1.02)]


def _first_row(stage: Stage, shares: list[float]) -> Row:
    what = f"{stage.title}: first preview / picture, of {stage.request.num_inference_steps} steps"
    if len(shares) < 3:
        return Row(what=what, goal=0.08, remark="no preview came")
    kept = Samples(tuple(shares[1:]))  # the first picture waited for its model
    return Row(
        what=what,
        value=kept.median,
        goal=0.08,
        slack=0.08 * (kept.noise - 1),
        noise=kept.noise,
    )
