"""Which job runs next, and what state each active job is in.

The database is written first and the memory after it, so that a failed write changes nothing
and a kill at any point leaves a state that `recover` can go on from. What only concerns a
job that is being drawn (RUNNING, its notes) is in memory alone until the job is settled.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from uuid import uuid4

from studio.errors import QueueFull, StorageFailed
from studio.estimates import Estimates
from studio.job_store import JobStore
from studio.jobs import Enlargement, Job, JobState
from studio.progress import Progress, ProgressBoard, progress_of
from studio.queue import FairQueue
from studio.request import GenerationRequest
from studio.settings import Settings
from studio.waiting import Waiting, about

MAX_ATTEMPTS = 3
_INTERRUPTED = "The server stopped {} times while drawing this, so it was given up."

_log = logging.getLogger(__name__)


class Dispatcher:
    """Accepts, hands out, stops and settles jobs. Thread-safe.

    `_live` holds every active job, `_stopped` the ids of those that their visitor stopped
    while they were being drawn, `_unsaved` settled jobs that the database did not take yet.
    """

    def __init__(
        self, settings: Settings, store: JobStore, board: ProgressBoard, estimates: Estimates
    ) -> None:
        self._settings = settings
        self._store = store
        self._board = board
        self._estimates = estimates
        self._waiting = Waiting(estimates, board)
        self._changed = threading.Condition()
        self._queue = FairQueue()
        self._live: dict[str, Job] = {}
        self._stopped: set[str] = set()
        self._unsaved: dict[str, Job] = {}
        self._is_woken = False
        self._closed = False

    def recover(self) -> None:
        """Queue again what the last process left behind; give up what killed it three times."""
        with self._changed:
            for job, stopped in self._store.interrupted():
                self._resume(job, stopped)
            self._announce()

    def close(self) -> None:
        """Wake whoever waits in `take`; nothing is handed out any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def release(self) -> None:
        """Queue again, for the next start, what the engine left unfinished; it does not count.

        What cannot be stored now is recovered then, as after a crash.
        """
        with self._changed, suppress(StorageFailed):
            self.save_late()
            for job in self._live.values():
                if job.state is not JobState.QUEUED and job.id not in self._stopped:
                    self._store.save(_queued_again(job))

    def accept(
        self, request: GenerationRequest, owner: str, enlargement: Enlargement | None = None
    ) -> Job:
        """Store and queue a new job.

        Raises:
            QueueFull: too many jobs wait, of this owner or of all.
            StorageFailed: the job could not be stored; it is not accepted.
        """
        job = Job(
            id=uuid4().hex,
            owner=owner,
            request=request,
            enlargement=enlargement,
            state=JobState.QUEUED,
            created_at=_now(),
        )
        with self._changed:
            self._check_limits(owner)
            self._store.add(job)
            self._enqueue(job)
            self._announce()
        return job

    def take(
        self, timeout_s: float, may_take: Callable[[Job], bool] = lambda job: True
    ) -> Job | None:
        """Wait for the next job and mark it LOADING; None when time is up or after `close`.

        `may_take` is asked about waiting jobs in their order; who is refused holds up nobody. It
        is called with the lock held, and must not wait.
        """
        with self._changed:
            job_id = self._changed.wait_for(
                lambda: self._closed or self._next(may_take) or self._is_woken, timeout_s
            )
            self._is_woken = False
            if self._closed or not isinstance(job_id, str):
                return None
            job = replace(self._live[job_id], state=JobState.LOADING, started_at=_now())
            self._store.save(job)
            self._queue.take(job.owner, job_id)
            self._live[job_id] = job
            self._board.publish(progress_of(job))
            self._announce()
        return job

    def wake(self) -> None:
        """Let whoever waits in `take` go on, or the next one to come, with or without a job."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    def check_limits(self, owner: str) -> None:
        """Raise QueueFull if no more may wait, of this owner or of all."""
        with self._changed:
            self._check_limits(owner)

    def live(self, job_id: str) -> Job | None:
        """The job, if it is active."""
        return self._live.get(job_id)

    def in_memory(self, job_id: str) -> Job | None:
        """The job, if its row may be behind: it is active, or settled and not stored yet."""
        return self._live.get(job_id) or self._unsaved.get(job_id)

    def all_in_memory(self) -> dict[str, Job]:
        """All such jobs by id."""
        with self._changed:
            return self._unsaved | self._live

    def is_stopped(self, job_id: str) -> bool:
        """Whether drawing should end: the visitor stopped the job, or it is settled."""
        return job_id in self._stopped or job_id not in self._live

    def mark_running(self, job_id: str) -> None:
        """LOADING -> RUNNING, at its first step."""
        job = self._live.get(job_id)
        if job is None or job.state is not JobState.LOADING:
            return
        with self._changed:
            if job := self._live.get(job_id):
                self._live[job_id] = replace(job, state=JobState.RUNNING)

    def add_note(self, job_id: str, text: str) -> None:
        """Leave the visitor a word about the job."""
        with self._changed:
            if job := self._live.get(job_id):
                self._live[job_id] = replace(job, notes=(*job.notes, text))

    def cancel(self, job_id: str) -> None:
        """Stop a job: at once if it waits, else by a flag that the engine reads every step."""
        with self._changed:
            job = self._live.get(job_id)
            if job is None:
                return
            if job.state is JobState.QUEUED:
                self._store.save(_settled(job, JobState.CANCELLED, None))
                self._queue.remove(job.owner, job_id)
                self._forget(job_id)
            else:
                self._store.request_cancel(job_id)
                self._stopped.add(job_id)

    def settle(self, job_id: str, state: JobState, error: str | None = None) -> None:
        """Give an active job its final state; does nothing to one that has its own already.

        When the database does not take it, the state is kept in memory until `save_late`.
        """
        with self._changed:
            job = self._live.get(job_id)
            if job is None:
                return
            job = _settled(job, state, error)
            try:
                self._store.save(job)
            except StorageFailed:
                _log.exception("Job %s is %s, but that could not be stored", job_id, state.value)
                self._unsaved[job_id] = job
            self._forget(job_id)

    def save_late(self) -> None:
        """Try again to store what `settle` could not."""
        with self._changed, suppress(StorageFailed):
            for job in list(self._unsaved.values()):
                self._store.save(job)
                del self._unsaved[job.id]

    def eta_s(self, progress: Progress) -> float | None:
        """Seconds until a job is done; None until all that goes before it has been measured."""
        job = self._live.get(progress.job_id)
        if job is None:
            return None
        if job.state is not JobState.QUEUED:
            return self._estimates.remaining_s(job.work, progress)
        with self._changed:
            order = self._queue.order()
            if job.id not in order:
                return None
            before = order[: order.index(job.id) + 1]
            return self._waiting.seconds(self._live.values(), before)

    def _next(self, may_take: Callable[[Job], bool]) -> str | None:
        return next((one for one in self._queue.order() if may_take(self._live[one])), None)

    def _check_limits(self, owner: str) -> None:
        own, waiting = self._queue.count(owner), len(self._queue)
        if own >= self._settings.owner_queue_limit:
            start = f"{own} of your requests wait already, which is the most for one visitor"
        elif waiting >= self._settings.queue_limit:
            start = f"The queue is full: {waiting} requests wait"
        else:
            return
        wait_s = self._waiting.seconds(self._live.values(), self._queue.order())
        known = "how long they take is not known yet" if wait_s is None else about(wait_s)
        raise QueueFull(f"{start}; {known}. Try again when one of them is done.")

    def _resume(self, job: Job, stopped: bool) -> None:
        was_taken = job.state is not JobState.QUEUED
        attempts = job.attempts + was_taken
        if stopped:
            self._store.save(_settled(job, JobState.CANCELLED, None))
        elif attempts >= MAX_ATTEMPTS:
            error = _INTERRUPTED.format(attempts)
            self._store.save(_settled(replace(job, attempts=attempts), JobState.FAILED, error))
        else:
            job = replace(_queued_again(job), attempts=attempts)
            if was_taken:
                self._store.save(job)
            self._enqueue(job)

    def _enqueue(self, job: Job) -> None:
        self._live[job.id] = job
        self._queue.put(job.owner, job.id)

    def _forget(self, job_id: str) -> None:
        del self._live[job_id]
        self._stopped.discard(job_id)
        self._board.remove(job_id)
        self._announce()

    def _announce(self) -> None:
        """Tell everybody who waits for, or in, the queue where it stands now."""
        for position, job_id in enumerate(self._queue.order(), start=1):
            before = self._board.get(job_id)
            if before is None or before.position != position:
                waiting = progress_of(self._live[job_id])
                self._board.publish(replace(waiting, position=position))
        self._changed.notify_all()


def _queued_again(job: Job) -> Job:
    """A job as it was before it was taken; its notes come again as it is drawn again."""
    return replace(job, state=JobState.QUEUED, started_at=None, notes=())


def _settled(job: Job, state: JobState, error: str | None) -> Job:
    return replace(job, state=state, error=error, finished_at=_now())


def _now() -> datetime:
    return datetime.now(timezone.utc)
