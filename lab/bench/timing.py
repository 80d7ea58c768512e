"""Ways of doing the same thing, timed in turns on a machine that is never quite idle."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Arm = Callable[[], float]
"""Does its work and returns its figure, mostly seconds."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The figures of one arm in the order in which they were taken, at least two."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def halves(self) -> tuple[float, float]:
        """The medians of every other one, and of the rest: without noise they are the same."""
        return statistics.median(self.values[0::2]), statistics.median(self.values[1::2])

    @property
    def noise(self) -> float:
        """A/A: the larger of the halves over the smaller; 1 is none."""
        low, high = sorted(self.halves)
        return high / low

    @property
    def p95(self) -> float:
        return percentile(self.values, 95)


def interleave(arms: Mapping[str, Arm], rounds: int, warm_ups: int = 1) -> dict[str, Samples]:
    """Run all arms `rounds` times in their order and back (A B B A), after warm-ups not kept."""
    for _ in range(warm_ups):
        for arm in arms.values():
            arm()
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name in (*arms, *reversed(arms)):
            taken[name].append(arms[name]())
    return {name: Samples(tuple(values)) for name, values in taken.items()}


def noise_of(*arms: Samples) -> float:
    """The noise floor of a ratio: that of its noisier arm."""
    return max(arm.noise for arm in arms)


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear between the two nearest ranks, as numpy's default."""
    ordered = sorted(values)
    place = percent / 100 * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


@dataclass(frozen=True, slots=True)
class Trend:
    """How a series grows from its first value to its last."""

    growth: float
    spread: float
    """Largest distance of two values once the growth is taken out of them: the noise."""


def trend_of(values: Sequence[float]) -> Trend:
    """Theil and Sen's line through a series: the median of the slopes between all pairs.

    One outlier, or a single step of an allocator, does not bend it.
    """
    pairs = [
        (later - sooner) / (j - i)
        for i, sooner in enumerate(values)
        for j, later in enumerate(values)
        if j > i
    ]
    slope = statistics.median(pairs)
    left = [value - slope * place for place, value in enumerate(values)]
    return Trend(slope * (len(values) - 1), max(left) - min(left))
