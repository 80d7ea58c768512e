"""The command: `python -m lab.bench`, and `python -m lab.bench --gpu` where there is one."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import diffusers
import transformers

from lab.bench.alone import measure_overhead, measure_previews
from lab.bench.builtin import builtin_stage
from lab.bench.effort import FULL, QUICK, Effort
from lab.bench.equality import measure_equality
from lab.bench.gpu import GOALS, PLAIN_CALLS, NoGpu, gpu_stages, measure_tiers
from lab.bench.roofline import measure_roofline
from lab.bench.sharing import measure_mixing, measure_sharing, measure_waiting
from lab.bench.starting import measure_first_picture, measure_pages
from lab.bench.stub import Sleeper, stub_stage
from lab.bench.switching import measure_growth, measure_switching
from lab.bench.table import Row, print_part, write_rows

RESULTS = Path(__file__).resolve().parent.parent / "results"
Parts = Mapping[str, Callable[[], list[Row]]]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print every part as soon as it is done; the exit status."""
    options = _read_options(arguments)
    effort = QUICK if options.quick else FULL
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    started = time.monotonic()
    with ExitStack() as stack:
        try:
            parts = _parts(options, effort, stack)
        except NoGpu as exc:
            print(exc, file=sys.stderr)
            return 2
        for name in options.only or parts:
            if name not in parts:
                print(f"There is no part {name}: {', '.join(parts)}", file=sys.stderr)
                return 2
            rows = parts[name]()
            print_part(name, rows)
            if options.json is not None:
                write_rows(options.json, name, rows, effort.name)
    print(f"\n{time.monotonic() - started:.0f} s, effort: {effort.name}")
    return 0


def _read_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.bench", description=__doc__)
    parser.add_argument("--gpu", action="store_true", help="SD-2 and SDXL with random weights")
    parser.add_argument("--toy", action="store_true", help="with --gpu: tiny, on the processor")
    parser.add_argument("--quick", action="store_true", help="shows only that all runs")
    parser.add_argument("--only", nargs="+", metavar="PART", help="by the names in the table")
    parser.add_argument("--json", type=Path, help="default: lab/results, if neither quick nor toy")
    options = parser.parse_args(arguments)
    if options.json is None and not (options.quick or options.toy):
        options.json = RESULTS / f"bench-{'gpu' if options.gpu else 'cpu'}.json"
    return options


def _parts(options: argparse.Namespace, effort: Effort, stack: ExitStack) -> Parts:
    if options.gpu:
        return _gpu_parts(effort, stack, toy=options.toy)
    return {**_stub_parts(effort, stack), **_builtin_parts(effort)}


def _stub_parts(effort: Effort, stack: ExitStack) -> Parts:
    sleeper = Sleeper()
    stage = stack.enter_context(stub_stage(effort, sleeper))
    most = f"{sleeper.gain(effort.users):.2f} x is the most there is"
    return {
        "stub-overhead": partial(measure_overhead, stage, effort),
        "stub-sharing": partial(measure_sharing, stage, effort, None, most),
        "stub-mixing": partial(measure_mixing, stage, effort),
        "stub-waiting": partial(measure_waiting, stage, effort),
    }


def _builtin_parts(effort: Effort) -> Parts:
    stage = builtin_stage(effort)
    return {
        "page": partial(measure_pages, effort),
        "start": partial(measure_first_picture, stage, effort),
        "overhead": partial(measure_overhead, stage, effort, 1.05),
        "previews": partial(measure_previews, stage, effort),
        "sharing": partial(measure_sharing, stage, effort, 1.2),
        "mixing": partial(measure_mixing, stage, effort),
        "waiting": partial(measure_waiting, stage, effort),
        "switching": partial(measure_switching, stage, effort),
        "memory": partial(measure_growth, stage, effort),
        "equality": partial(measure_equality, stage, effort),
    }


def _gpu_parts(effort: Effort, stack: ExitStack, *, toy: bool) -> Parts:
    stages = stack.enter_context(gpu_stages(effort, toy))
    small, large = stages["sd2-512"], stages["sd2-768"]
    plain = replace(small, settings=replace(small.settings, **PLAIN_CALLS))
    tiers = {
        name: partial(measure_tiers, stage, effort, GOALS[name]) for name, stage in stages.items()
    }
    return {
        **tiers,
        "roofline": partial(measure_roofline, large, effort, 0.38, toy=toy),
        "roofline-512": partial(measure_roofline, small, effort, 0.33, toy=toy),
        "mixing": partial(measure_mixing, small, effort),
        "waiting": partial(measure_waiting, small, effort),
        "previews": partial(measure_previews, small, effort),
        "switching": partial(measure_switching, small, effort),
        "memory": partial(measure_growth, small, effort),
        "equality": partial(measure_equality, plain, effort, None if toy else small),
    }


if __name__ == "__main__":
    sys.exit(main())
