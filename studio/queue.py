"""A fair queue: owners take turns, and each owner's jobs keep their order."""

from __future__ import annotations

from collections import OrderedDict, deque


class FairQueue:
    """Round robin between owners, in memory. Not thread-safe: its owner holds the lock.

    The owner at the head gives its oldest job, the first of `order`, and goes to the end of the
    ring, so two hundred jobs of one visitor delay another visitor's first job by one job only.
    """

    def __init__(self) -> None:
        self._ring: OrderedDict[str, deque[str]] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(jobs) for jobs in self._ring.values())

    def count(self, owner: str) -> int:
        """Jobs of one owner that wait."""
        return len(self._ring.get(owner, ()))

    def put(self, owner: str, job_id: str) -> None:
        """Append a job; a new owner joins at the end of the ring."""
        self._ring.setdefault(owner, deque()).append(job_id)

    def take(self, owner: str, job_id: str) -> None:
        """Take a job out to run it; its owner goes to the end of the ring.

        Raises:
            KeyError: it does not wait.
        """
        jobs = self._ring[owner]
        if job_id not in jobs:
            raise KeyError(job_id)
        jobs.remove(job_id)
        self._ring.move_to_end(owner)
        if not jobs:
            del self._ring[owner]

    def remove(self, owner: str, job_id: str) -> None:
        """Take a job out of the middle; does nothing if it does not wait."""
        jobs = self._ring.get(owner, deque())
        if job_id in jobs:
            jobs.remove(job_id)
        if not jobs:
            self._ring.pop(owner, None)

    def order(self) -> list[str]:
        """All waiting jobs in the order in which they will run, if nothing else comes."""
        turns = [
            (turn, place, job_id)
            for place, jobs in enumerate(self._ring.values())
            for turn, job_id in enumerate(jobs)
        ]
        return [job_id for _, _, job_id in sorted(turns)]
