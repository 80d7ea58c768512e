"""Figures: a value with its name, its interval and how many pictures it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from lab.metrics.distances import frechet_distance, inception_score, kernel_distance
from lab.metrics.intervals import Interval, jackknife, wilson
from lab.metrics.observers import Observer, Views
from lab.metrics.ranking import Queries


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value."""

    name: str
    value: float
    n: int
    """Pictures (or questions) it rests on."""
    interval: Interval | None
    """95 %; None with too few pictures for one."""
    beside: str
    """What the value is to be compared with."""

    def row(self) -> dict:
        """Return the figure as JSON would hold it."""
        return asdict(self)


def view_figures(observer: Observer, views: Views, reference: Views | None) -> list[Figure]:
    """Return the score of a set of pictures, and its distances to a reference."""
    n, classes = views.probabilities.shape
    figures = [
        Figure(
            name=observer.names["IS"],
            value=inception_score(views.probabilities),
            n=n,
            interval=jackknife(inception_score, views.probabilities),
            beside=f"1 at worst, {classes} at best",
        )
    ]
    if reference is None:
        return figures
    of = f"{len(reference.features):,} reference pictures, 0 at best"
    for key, distance in (("FD", frechet_distance), ("KD", kernel_distance)):
        pair = (views.features, reference.features)
        interval = jackknife(distance, *pair)
        figures.append(
            Figure(
                name=observer.names[key], value=distance(*pair), n=n, interval=interval, beside=of
            )
        )
    return figures


def precision_figure(ranker: str, precision: np.ndarray, queries: Queries) -> Figure:
    """Return R-precision over all pictures; `precision` holds each one's, in [0, 1]."""
    total = len(precision)
    single = bool((queries.relevant.sum(1) == 1).all())
    interval = (
        wilson(int(precision.sum()), total)
        if single
        else jackknife(lambda values: float(values.mean()), precision)
    )
    return Figure(
        name=f"R-precision ({ranker})",
        value=float(precision.mean()),
        n=total,
        interval=interval,
        beside=f"chance {queries.chance:.4f}: own among {queries.relevant.shape[1]} texts",
    )


def table(figures: Sequence[Figure]) -> str:
    """Return figures as lines of text."""
    width = max(len(figure.name) for figure in figures) + 2
    lines = [f"{'':{width}}{'value':>10}{'95 % interval':>20}{'n':>8}  compare"]
    for figure in figures:
        reach = "{:.4g} to {:.4g}".format(*figure.interval) if figure.interval else "too few"
        lines.append(
            f"{figure.name:{width}}{figure.value:>10.4g}{reach:>20}{figure.n:>8,}  {figure.beside}"
        )
    return "\n".join(lines)
