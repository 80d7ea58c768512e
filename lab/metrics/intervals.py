"""95 % intervals: Wilson's for shares, the grouped jackknife for everything else."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np

Z = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""
GROUPS = 20
"""Parts of the pictures that the jackknife leaves out in turn."""

Interval = tuple[float, float]


def wilson(hits: int, trials: int) -> Interval:
    """Return the 95 % Wilson interval of a share."""
    share = hits / trials
    middle = (share + Z * Z / (2 * trials)) / (1 + Z * Z / trials)
    reach = Z * sqrt(share * (1 - share) / trials + Z * Z / (4 * trials**2)) / (1 + Z * Z / trials)
    return round(middle - reach, 4), round(middle + reach, 4)


def jackknife(statistic: Callable[..., float], *samples: np.ndarray) -> Interval | None:
    """Return the 95 % interval of `statistic(*samples)`, or None with too few rows for it.

    A twentieth of every sample is left out in turn. Drawing with replacement (the bootstrap) would
    not do here: doubled pictures raise kernel distances and lower the rank of covariances.
    """
    if min(len(sample) for sample in samples) < 2 * GROUPS:
        return None
    kept = [
        statistic(*(sample[np.arange(len(sample)) % GROUPS != group] for sample in samples))
        for group in range(GROUPS)
    ]
    error = sqrt((GROUPS - 1) * float(np.var(kept)))
    value = statistic(*samples)
    return value - Z * error, value + Z * error
