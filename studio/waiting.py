"""How long jobs will wait, and how that is said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from studio.estimates import Estimates
from studio.jobs import Job, JobState
from studio.progress import ProgressBoard, progress_of


class Waiting:
    """Foretells when jobs are done, from what was measured and how far the others are."""

    def __init__(self, estimates: Estimates, board: ProgressBoard) -> None:
        self._estimates = estimates
        self._board = board

    def seconds(self, active: Iterable[Job], waiting_ids: Sequence[str]) -> float | None:
        """Until the running jobs and then these are done, with as many at a time.

        None until all of them have been measured.
        """
        jobs = list(active)
        running = [job for job in jobs if job.state is not JobState.QUEUED]
        waiting = [job for job in jobs if job.id in waiting_ids]
        left = [
            self._estimates.remaining_s(job.work, self._board.get(job.id) or progress_of(job))
            for job in running
        ]
        left += [self._estimates.total_s(job.work) for job in waiting]
        models = _models(waiting) - _models(running)
        left += [self._estimates.loading_s(model) or 0.0 for model in models]
        known = [seconds for seconds in left if seconds is not None]
        return sum(known) / max(1, len(running)) if len(known) == len(left) else None


def about(seconds: float) -> str:
    """Less than a minute and a half in seconds, more in minutes."""
    if seconds < 90:
        return f"they take about {max(1, round(seconds))} s"
    return f"they take about {round(seconds / 60)} minutes"


def _models(jobs: list[Job]) -> set[str]:
    """Keys of the models that the jobs draw with."""
    return {job.request.model for job in jobs if job.enlargement is None}
