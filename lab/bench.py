"""Measures what the README claims about speed: `python -m lab.bench`.

Every figure is a ratio of two arms of one run, or seconds on this machine; A/A is the ratio of an
arm with itself, below which no difference means anything. The result is printed beside the goals
and written to lab/results/bench-<device>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from lab.bench_page import time_bare_page, time_croquis
from lab.timing import compare

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("torch", "diffusers", "transformers", "gradio", "pillow")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    value: float
    unit: str
    """"x" for a ratio, "s" or "%"."""
    goal: float | None
    """The value must not be larger."""
    remark: str = ""

    @property
    def verdict(self) -> str:
        """Whether the goal is reached."""
        if self.goal is None:
            return ""
        return "yes" if self.value <= self.goal else "NO"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of A B B A (default 5)")
    parser.add_argument("--only", choices=("page", "drawing"), help="measure one half")
    options = parser.parse_args()
    rows: list[Row] = []
    device = "cpu"
    if options.only != "drawing":
        rows += measure_page(options.rounds)
    if options.only != "page":
        device, drawn = measure_drawing(options.rounds)
        rows += drawn
    print_table(rows)
    if options.only is None:
        write_json(rows, device, options.rounds)


def measure_page(rounds: int) -> list[Row]:
    """Process start to HTTP 200, against a bare Gradio page."""
    found = compare(time_croquis, time_bare_page, rounds)
    ours, theirs = statistics.median(found.ours_s), statistics.median(found.theirs_s)
    remark = f"{ours:.2f} s / {theirs:.2f} s, A/A {found.noise:.2f}"
    return [Row("page served / a bare Gradio page", found.ratio, "x", 1.3, remark)]


def measure_drawing(rounds: int) -> tuple[str, list[Row]]:
    """The built-in model: seconds, overhead of the studio, preview, enlarging."""
    from lab.bench_drawing import make_bench
    from studio.settings import Settings

    settings = Settings.from_environment(os.environ)
    with tempfile.TemporaryDirectory() as data_dir:
        bench = make_bench(Path(data_dir), settings)
        previews = []

        def ours() -> float:
            timed = bench.time_request()
            if timed.first_preview_s is not None:
                previews.append(timed.first_preview_s / timed.total_s)
            return timed.total_s

        with bench.running():
            found = compare(ours, bench.time_pipeline, rounds)
            fast_s = statistics.median(bench.time_fast(2 * rounds))
            enlarging_s = statistics.median(bench.time_enlarging(2 * rounds))
        size = f"{bench.request.width} x {bench.request.height} px"
    picture_s = statistics.median(found.ours_s)
    remark = f"{picture_s:.3f} s / {statistics.median(found.theirs_s):.3f} s, A/A {found.noise:.2f}"
    return bench.device, [
        Row("a picture of 20 steps through the studio", picture_s, "s", 2.5, size),
        Row("a picture of 4 steps, by the fast variant", fast_s, "s", 0.6, size),
        Row("whole request / bare pipeline call", found.ratio, "x", 1.15, remark),
        Row("first preview / picture", 100 * statistics.median(previews), "%", 15.0),
        Row("enlarging it 4 times, on top", enlarging_s, "s", None),
    ]


def print_table(rows: list[Row]) -> None:
    """Print the rows with their goals."""
    print(f"{'':44} {'measured':>10} {'goal':>10}  reached")
    for row in rows:
        goal = "" if row.goal is None else f"<= {row.goal:g} {row.unit}"
        measured = f"{row.value:.2f} {row.unit}"
        print(f"{row.what:44} {measured:>10} {goal:>10}  {row.verdict:7} {row.remark}".rstrip())


def write_json(rows: list[Row], device: str, rounds: int) -> None:
    """Write the rows, the versions and the number of cores; nothing that names the machine."""
    from pipelines.device import usable_cores

    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"bench-{device}.json"
    result = {
        "rows": [{**asdict(row), "reached": row.verdict} for row in rows],
        "rounds": rounds,
        "cores": usable_cores(),
        "versions": {"python": platform.python_version()}
        | {library: version(library) for library in LIBRARIES},
    }
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"Written to lab/results/{path.name}")


if __name__ == "__main__":
    main()
