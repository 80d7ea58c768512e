"""What must not reach the visitor as a black square: broken pictures and flagged ones."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import numpy as np

from studio.errors import CroquisError, Unsafe


class Flaw(Enum):
    """Why a picture is not shown, in words with a place for its name."""

    HELD_BACK = "The model's safety check held {} back. Change the prompt, or try another seed."
    BROKEN = (
        "The model drew only black for {}. In half precision large values overflow: set "
        "`CROQUIS_DTYPE=float32`, or try another scheduler or a lower guidance."
    )


def find_flaw(pixels: np.ndarray, is_flagged: bool) -> Flaw | None:
    """Look at a picture (H, W, 3), values in [0, 1]; `is_flagged` is its checker's verdict.

    It is broken if it holds no numbers (an overflow in half precision), or only black.
    """
    if is_flagged:
        return Flaw.HELD_BACK
    return None if np.isfinite(pixels).all() and pixels.any() else Flaw.BROKEN


def note_on(flaw: Flaw, index: int) -> str:
    """Say why picture `index` (0 is the first) is not there."""
    return flaw.value.format(f"picture {index + 1}")


def nothing_left(flaws: Sequence[Flaw]) -> CroquisError:
    """Make the error of a request all of whose pictures, one or more, have a flaw."""
    text = " ".join(
        flaw.value.format(_count(flaws.count(flaw), len(flaws))) for flaw in dict.fromkeys(flaws)
    )
    return Unsafe(text) if Flaw.HELD_BACK in flaws else CroquisError(text)


def _count(part: int, total: int) -> str:
    if part < total:
        return f"{part} of {total} pictures"
    return "the picture" if total == 1 else f"all {total} pictures"
