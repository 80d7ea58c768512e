"""How many rows at once pay: learnt from the steps that are made anyway, and kept on disk.

Twice the rows are tried in turn with half of them as soon as there is a demand for them, and stay
allowed if they raise the rows per second. Where that stops, at the knee, more rows would only make
everybody wait.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

GAIN = 1.05
"""What twice as many rows must bring in rows per second."""
SAMPLES = 5
"""Measurements of a size before it is judged; the fastest counts, as noise only ever adds."""
MOST_ROWS = 64

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Trial:
    """Whether calls of `2 * rows` are better than calls of `rows`; seconds of both."""

    rows: int
    of_half: list[float] = field(default_factory=list)
    of_whole: list[float] = field(default_factory=list)

    @property
    def wanted(self) -> int:
        """Rows of the size that was measured less often."""
        return self.rows if len(self.of_half) < len(self.of_whole) else 2 * self.rows

    @property
    def is_over(self) -> bool:
        return min(len(self.of_half), len(self.of_whole)) >= SAMPLES

    @property
    def gain(self) -> float:
        """Rows per second of the whole over those of the half."""
        return 2 * min(self.of_half) / min(self.of_whole)


class Knees:
    """The most rows of one call, for each kind of call. For one thread.

    Args:
        path: a JSON file that keeps them; None forgets them at the end.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._trials: dict[str, _Trial] = {}
        self._found: dict[str, int] = _read(path)

    def most_rows(self, kind: str, least: int) -> int:
        """How many rows a call may have; `least` of one job are always allowed.

        `kind` says what the time depends on: model, device, size.
        """
        if kind in self._found:
            return max(least, self._found[kind])
        trial = self._trials.get(kind)
        if trial is None or trial.rows < least:
            trial = self._trials[kind] = _Trial(least)
        return trial.wanted

    def is_learning(self, kind: str) -> bool:
        """Whether the seconds of a call are wanted."""
        return kind not in self._found

    def learn(self, kind: str, rows: int, seconds: float) -> None:
        """Note what a call took; sizes that are not on trial say nothing."""
        trial = self._trials.get(kind)
        if trial is None or rows not in (trial.rows, 2 * trial.rows):
            return
        (trial.of_half if rows == trial.rows else trial.of_whole).append(seconds)
        if not trial.is_over:
            return
        if trial.gain < GAIN:
            self._settle(kind, trial.rows)
        elif 4 * trial.rows > MOST_ROWS:
            self._settle(kind, 2 * trial.rows)
        else:
            self._trials[kind] = _Trial(2 * trial.rows)

    def limit(self, kind: str, rows: int) -> None:
        """Allow fewer than `rows` from now on: they did not fit into the memory."""
        self._found[kind] = max(1, rows // 2)

    def _settle(self, kind: str, rows: int) -> None:
        """Keep what was found; a disk that is full costs only a second measurement."""
        self._found[kind] = rows
        del self._trials[kind]
        log.info("%s draws best with %d rows at once", kind, rows)
        if self._path is not None:
            try:
                self._path.write_text(json.dumps(self._found, indent=1), encoding="utf-8")
            except OSError:
                log.exception("What was measured could not be kept")


def _read(path: Path | None) -> dict[str, int]:
    if path is None or not path.is_file():
        return {}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return {str(kind): min(MOST_ROWS, max(1, int(rows))) for kind, rows in kept.items()}
    except (ValueError, TypeError, AttributeError, OSError):
        log.warning("%s is damaged: it is measured anew", path.name)
        return {}
