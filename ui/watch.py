"""Follow a visitor's active jobs and say what to show, at most five times a second."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
from studio.errors import NotFound
from studio.jobs import Job, JobState
from studio.progress import Progress
from studio.studio import Studio

PAUSE_S = 0.2
"""Time between two looks. The page looks instead of blocking in `Studio.wait_for_change`:
a blocked thread per open page would use up the server's threads."""


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What a look at the jobs found: one that goes on, or one that has ended."""

    job: Job
    progress: Progress
    others: int
    """Jobs of this visitor that wait behind it."""

    @property
    def ended(self) -> bool:
        """Whether the job is finished, failed or stopped."""
        return not self.progress.state.is_active


async def watch(studio: Studio, owner: str, started: str) -> AsyncIterator[Glimpse]:
    """Yield what changed until the visitor has no active job left; the end of each too.

    `started` is the id of the job that was submitted last: its end is told even if it was
    over before anyone looked.
    """
    followed = ""
    while jobs := await anyio.to_thread.run_sync(active_jobs, studio, owner):
        followed = jobs[0].id
        async for glimpse in _follow(studio, owner, jobs[0]):
            yield glimpse
    if started and followed != started:
        with contextlib.suppress(NotFound):
            job = await anyio.to_thread.run_sync(studio.job, started, owner)
            async for glimpse in _follow(studio, owner, job):
                yield glimpse


async def _follow(studio: Studio, owner: str, job: Job) -> AsyncIterator[Glimpse]:
    seen: tuple[int, int] | None = None
    while True:
        try:
            progress = await anyio.to_thread.run_sync(studio.look, job.id, owner)
        except NotFound:
            return
        others = 0
        if progress.state.is_active:
            others = len(await anyio.to_thread.run_sync(active_jobs, studio, owner)) - 1
        if (progress.version, others) != seen:
            seen = (progress.version, others)
            yield Glimpse(job, progress, max(others, 0))
        if not progress.state.is_active:
            return
        await anyio.sleep(PAUSE_S)


def active_jobs(studio: Studio, owner: str) -> list[Job]:
    """The visitor's active jobs, the one that is drawn (or comes first) first."""
    jobs = studio.jobs(owner, active_only=True, limit=None)
    return sorted(jobs, key=lambda job: (job.state is JobState.QUEUED, job.created_at))
