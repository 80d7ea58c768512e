"""The richer textile patterns: woven herringbone, and half-drop repeats of drawn motifs.

Each maps x and y, in repeats, to the share of the second colour, 0 to 1. The half-drop ones have
period 2 in x, as wallpapers and brocades do: every second column hangs half a repeat lower.
"""

from __future__ import annotations

import numpy as np

Field = np.ndarray

HALF_DROPS = ("damask", "paisley", "leaves")


def herringbone(x: Field, y: Field) -> Field:
    """Twill that breaks at every half repeat and turns back."""
    across = x % 1
    turned = np.where(across < 0.5, y + across, y - across + 0.25)
    return (turned * 2 % 1 < 0.5) * 1.0


def damask(x: Field, y: Field) -> Field:
    """A palmette in an ogee frame."""
    a, b = _cell(x, y)
    angle, radius = np.arctan2(a, -b), np.hypot(a * 1.15, b * 0.92)
    petals = radius < 0.25 + 0.1 * np.cos(6 * angle)
    hollow = (radius < 0.15) & (radius > 0.08)
    edge = 0.33 + 0.13 * np.cos(2 * np.pi * b)
    frame = np.abs(np.abs(a) - edge) < 0.035
    return ((petals & ~hollow) | frame) * 1.0


def paisley(x: Field, y: Field) -> Field:
    """A bent drop with a light rim and a dot."""
    a, b = _cell(x, y)
    way = np.where(np.floor(x) % 2 < 1, 1.0, -1.0)
    a = a * way
    outer = np.full_like(a, 9.0)
    for step in np.linspace(0, 1, 14):
        middle_x, middle_y = 0.05 - 0.22 * step**2, 0.14 - 0.5 * step
        reach = 0.27 * (1 - step) ** 0.75
        outer = np.minimum(outer, np.hypot(a - middle_x, b - middle_y) - reach)
    core = np.hypot(a - 0.05, b - 0.14) < 0.07
    rim = (outer > -0.105) & (outer < -0.06)
    return ((outer < 0) & ~rim | core) * 1.0 - (core & rim) * 0.0


def ikat(x: Field, y: Field) -> Field:
    """Stepped diamonds in rings, with the feathered edge of dyed threads."""
    thread = np.floor(x * 10) % 10
    feather = 0.5 * np.asarray([0.0, 0.05, -0.03, 0.06, -0.05, 0.02, -0.04, 0.05, -0.02, 0.04])
    a = np.abs((np.floor(x * 10) + 0.5) / 10 % 1 - 0.5)
    b = np.abs((y + feather[thread.astype(int)]) % 1 - 0.5)
    ring = a + b
    return ((ring < 0.16) | ((ring > 0.28) & (ring < 0.44)) | (ring > 0.82)) * 1.0


def scallops(x: Field, y: Field) -> Field:
    """Overlapping fish scales, each with a rim."""
    rim = np.zeros_like(x)
    # From the hidden rows to the nearest: a scale covers whatever lies under it.
    for row in (-1, 0, 1):
        line = np.floor(y * 2) - row
        top = line / 2
        a = (x + 0.5 * (line % 2)) % 1 - 0.5
        reach = np.hypot(a, y - top)
        inside = reach < 0.5
        rim = np.where(inside, (reach > 0.38) | (reach < 0.16), rim)
    return rim * 1.0


def leaves(x: Field, y: Field) -> Field:
    """Tilted leaves with a midrib, turned in every second column."""
    a, b = _cell(x, y)
    way = np.where(np.floor(x) % 2 < 1, 1.0, -1.0)
    along, across = (a * way + b) / np.sqrt(2), (a * way - b) / np.sqrt(2)
    leaf = np.hypot(along, np.abs(across) + 0.33) < 0.55
    return (leaf & (np.abs(across) > 0.028)) * 1.0


def _cell(x: Field, y: Field) -> tuple[Field, Field]:
    """Return the place in a half-drop cell, each from -0.5 to 0.5."""
    return x % 1 - 0.5, (y + 0.5 * (np.floor(x) % 2)) % 1 - 0.5
