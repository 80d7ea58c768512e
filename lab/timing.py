"""Two ways of doing the same thing, timed side by side on a machine that is never quite idle."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Comparison:
    """Seconds of two arms, taken in the order A B B A."""

    ours_s: tuple[float, ...]
    theirs_s: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Median of ours over median of theirs."""
        return statistics.median(self.ours_s) / statistics.median(self.theirs_s)

    @property
    def noise(self) -> float:
        """The ratio that `theirs` has with itself, every other run against the rest; 1 is none."""
        left, right = (statistics.median(self.theirs_s[start::2]) for start in (0, 1))
        return max(left, right) / min(left, right)


def compare(
    ours: Callable[[], float], theirs: Callable[[], float], rounds: int, warm_up: bool = True
) -> Comparison:
    """Run both arms `2 * rounds` times each; they return their seconds."""
    if warm_up:
        ours()
        theirs()
    ours_s, theirs_s = [], []
    for _ in range(rounds):
        ours_s.append(ours())
        theirs_s.append(theirs())
        theirs_s.append(theirs())
        ours_s.append(ours())
    return Comparison(tuple(ours_s), tuple(theirs_s))
