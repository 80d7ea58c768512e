"""A job: one accepted request and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from studio.request import GenerationRequest

ENLARGED_BY = 4
"""The upscaler's factor."""


class JobState(str, Enum):
    """Where a job stands. QUEUED, LOADING and RUNNING are active, the others are final.

    QUEUED -> LOADING -> RUNNING -> DONE | FAILED | CANCELLED
    """

    QUEUED = "queued"
    LOADING = "loading"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_active(self) -> bool:
        """Whether the job may still change."""
        return self in ACTIVE_STATES


ACTIVE_STATES = frozenset({JobState.QUEUED, JobState.LOADING, JobState.RUNNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Enlargement:
    """A kept picture that becomes a new one, four times as wide and as high."""

    picture_id: str
    width: int
    height: int
    """Of the kept picture in px."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One accepted request. A new value is made for every change."""

    id: str
    """uuid4 as 32 hex digits."""
    owner: str
    """The visitor that asked for it; nobody else sees it."""
    request: GenerationRequest
    """As asked, with the seed resolved: never -1. Of an enlargement: what drew its picture."""
    enlargement: Enlargement | None = None
    """What is done instead of drawing."""
    state: JobState
    created_at: datetime
    """Aware, UTC; so are the two below."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None
    """Why it failed, in words for the visitor."""
    notes: tuple[str, ...] = ()
    """What the visitor should know, such as what was cut from the prompt."""
    picture_ids: tuple[str, ...] = ()
    """Kept pictures in the order of their index, without deleted ones."""
    attempts: int = 0
    """How often the job was interrupted by the death of the server."""

    @property
    def is_active(self) -> bool:
        """Whether the job may still change."""
        return self.state.is_active

    @property
    def work(self) -> GenerationRequest | Enlargement:
        """What is to be done."""
        return self.enlargement or self.request
