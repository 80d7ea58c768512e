"""How far each active job is, and a way to wait for news of it."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, replace

from studio.jobs import Job, JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A snapshot of one job for whoever watches it."""

    job_id: str
    state: JobState
    position: int | None = None
    """Place in the queue, 1 is next; None when it does not wait."""
    eta_s: float | None = None
    """Seconds until the job is done; None until such a run has been measured."""
    step: int = 0
    total_steps: int = 0
    """Denoising steps of the picture that is being drawn."""
    image_index: int = 0
    """Picture that is being drawn, from 0."""
    batch: int = 1
    """Pictures that are drawn at once, this one and those after it."""
    num_images: int = 1
    part: int = 0
    parts: int = 0
    """Parts of the drawn picture that are enlarged, and all of them; 0 while it is drawn."""
    is_enlargement: bool = False
    """Its steps are parts of one large picture."""
    preview: bytes | None = None
    """JPEG of the picture as it forms; in memory only."""
    message: str = ""
    """One line for the visitor, such as "Loading Stable Diffusion 2, 2.6 GB"."""
    version: int = 0
    """Differs after every change."""


FINAL_VERSION = 2**31 - 1
"""Version of every finished job: nothing comes after it."""

_MESSAGES = {
    JobState.QUEUED: "Waiting",
    JobState.LOADING: "Preparing",
    JobState.RUNNING: "Drawing",
    JobState.DONE: "Done",
    JobState.CANCELLED: "Stopped",
}


def progress_of(job: Job) -> Progress:
    """What a job's row alone can tell: all there is to know of a finished one."""
    total = job.request.num_inference_steps
    done = job.state is JobState.DONE
    return Progress(
        job_id=job.id,
        state=job.state,
        step=total if done else 0,
        total_steps=total,
        image_index=job.request.num_images - 1 if done else 0,
        num_images=job.request.num_images,
        is_enlargement=job.enlargement is not None,
        message=job.error or _MESSAGES.get(job.state, ""),
        version=0 if job.is_active else FINAL_VERSION,
    )


WATCHED_S = 2.0
"""How long after a look somebody still counts as watching; the page looks five times a second."""


class ProgressBoard:
    """The progress of all active jobs. Thread-safe; every method but `wait` returns at once."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: dict[str, Progress] = {}
        self._seen_at: dict[str, float] = {}

    def publish(self, progress: Progress) -> None:
        """Replace a job's entry, give it the next version and wake those who wait."""
        with self._changed:
            before = self._entries.get(progress.job_id)
            version = before.version + 1 if before else 1
            self._entries[progress.job_id] = replace(progress, version=version)
            self._changed.notify_all()

    def get(self, job_id: str) -> Progress | None:
        """The entry of an active job."""
        return self._entries.get(job_id)

    def remove(self, job_id: str) -> None:
        """Forget a job that is finished and wake those who wait for it."""
        with self._changed:
            self._entries.pop(job_id, None)
            self._seen_at.pop(job_id, None)
            self._changed.notify_all()

    def wait_for_change(self, job_id: str, after_version: int, timeout_s: float) -> Progress | None:
        """Block until the version differs or time is up; None when the job is not active."""

        def is_news() -> bool:
            entry = self._entries.get(job_id)
            return entry is None or entry.version != after_version

        with self._changed:
            self._seen_at[job_id] = time.monotonic() + timeout_s
            self._changed.wait_for(is_news, timeout_s)
            if job_id in self._entries:
                self._seen_at[job_id] = time.monotonic()
            else:
                self._seen_at.pop(job_id, None)
            return self._entries.get(job_id)

    def is_watched(self, job_id: str) -> bool:
        """Whether somebody waits for news of a job, or has just looked."""
        return time.monotonic() - self._seen_at.get(job_id, -math.inf) < WATCHED_S
