"""The figures beside their goals: a table for the eye, JSON for the next run."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lab.bench.timing import Samples, noise_of

LIBRARIES = ("torch", "diffusers", "transformers", "gradio", "pillow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    what: str
    value: float | None = None
    """None if it could not be measured; `remark` says why."""
    unit: str = "x"
    """"x" is a ratio."""
    goal: float | None = None
    at_least: bool = False
    """The value must not be smaller than the goal; otherwise not larger."""
    slack: float = 0.0
    """How far beyond the goal is within the noise; in the unit."""
    noise: float | None = None
    """A/A, the noise floor of a ratio; 1 is none."""
    remark: str = ""

    @property
    def verdict(self) -> str:
        """Whether the goal is reached."""
        if self.value is None:
            return "not measured"
        if self.goal is None:
            return ""
        beyond = self.goal - self.value if self.at_least else self.value - self.goal
        if beyond <= 0:
            return "yes"
        return "within noise" if beyond <= self.slack else "NO"


def ratio_row(
    what: str,
    ours: Samples,
    theirs: Samples,
    goal: float | None = None,
    *,
    at_least: bool = False,
    remark: str = "",
) -> Row:
    """The row of median over median; the noise floor of both arms is its slack."""
    noise = noise_of(ours, theirs)
    seconds = f"{ours.median:.3g} s / {theirs.median:.3g} s"
    return Row(
        what=what,
        value=ours.median / theirs.median,
        goal=goal,
        at_least=at_least,
        slack=(goal or 0.0) * (noise - 1),
        noise=noise,
        remark=f"{seconds}, {remark}" if remark else seconds,
    )


def missing_row(what: str, why: str, **goal: Any) -> Row:
    """The row of what cannot be measured here; `goal` is what else the row would have."""
    return Row(what=what, remark=why, **goal)


def print_part(title: str, rows: Sequence[Row]) -> None:
    """Print the rows of one part with their goals."""
    print(f"\n{title:72} {'measured':>10} {'goal':>10}  {'reached':12} {'A/A':5}")
    for row in rows:
        sign = ">=" if row.at_least else "<="
        goal = "" if row.goal is None else f"{sign} {row.goal:g} {row.unit}"
        measured = "-" if row.value is None else f"{row.value:.3g} {row.unit}"
        noise = "" if row.noise is None else f"{row.noise:.2f}"
        line = f"  {row.what:70} {measured:>10} {goal:>10}  {row.verdict:12} {noise:5} {row.remark}"
        print(line.rstrip(), flush=True)


def write_rows(path: Path, part: str, rows: Sequence[Row], effort: str) -> None:
    """Put the rows of a part into a JSON file; the other parts stay what they were.

    With the versions, the processor's cores and the GPU's name; nothing that names the machine.
    """
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept[part] = {
        "rows": [{**asdict(row), "reached": row.verdict} for row in rows],
        "effort": effort,
        "machine": _machine(),
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(dict(sorted(kept.items())), indent=2) + "\n", encoding="utf-8")


def _machine() -> dict[str, Any]:
    from pipelines.device import usable_cores

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    versions = {name: version(name) for name in LIBRARIES}
    return {
        "cores": usable_cores(),
        "gpu": gpu,
        "versions": {"python": platform.python_version(), **versions},
    }
