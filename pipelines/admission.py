"""Which waiting jobs may be drawn beside those that are being drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipelines.company import takes_turns

if TYPE_CHECKING:
    from pipelines.loader import LoadedModel
    from studio.catalogue import Catalogue
    from studio.jobs import Job

MOST_JOBS = 16
"""At once, of visitors who have one of them already."""
MOST_VISITORS = 64
"""At once; each has a job."""


class Admission:
    """Lets jobs in. For one thread: the engine's.

    What cannot take turns is drawn from its first step to its last, so it enters only when nothing
    else is drawn. When such a job is refused nobody enters past it, and its turn comes.

    Args:
        fits: whether a model has room beside those in use.
        is_one_by_one: nothing takes turns, as where a GPU is lent for one job.
    """

    def __init__(
        self, catalogue: Catalogue, fits: Callable[[str], bool], *, is_one_by_one: bool
    ) -> None:
        self._catalogue = catalogue
        self._fits = fits
        self._is_one_by_one = is_one_by_one
        self._inside: dict[str, Job] = {}
        self._solitary: set[str] = set()
        self._is_shut = False

    def __len__(self) -> int:
        """Jobs that are being drawn."""
        return len(self._inside)

    def open(self) -> None:
        """Begin to ask about the waiting jobs, in the order in which they are to enter."""
        self._is_shut = False

    def may_enter(self, job: Job) -> bool:
        """Whether a waiting job can be drawn now, beside the others."""
        if not self._inside:
            return True
        if self._is_shut:
            return False
        owners = [inside.owner for inside in self._inside.values()]
        if len({*owners}) >= MOST_VISITORS:
            return False
        present = [job, *self._inside.values()]
        self._is_shut = any(map(self._is_solitary, present)) or not self._has_room_for(job)
        return not self._is_shut and (len(owners) < MOST_JOBS or job.owner not in owners)

    def enter(self, job: Job) -> None:
        self._inside[job.id] = job

    def leave(self, job: Job) -> None:
        del self._inside[job.id]

    def learn(self, loaded: LoadedModel) -> None:
        """Note whether jobs of a model can take turns, which is known once it is loaded."""
        if not takes_turns(loaded):
            self._solitary.add(loaded.spec.key)

    def _is_solitary(self, job: Job) -> bool:
        if self._is_one_by_one:
            return True
        if job.enlargement is not None:
            return False
        key = job.request.model
        return key in self._solitary or self._catalogue.get_model(key).backend != "diffusers"

    def _has_room_for(self, job: Job) -> bool:
        wanted, used = job.request.model, {one.request.model for one in self._inside.values()}
        return job.enlargement is not None or wanted in used or self._fits(wanted)
