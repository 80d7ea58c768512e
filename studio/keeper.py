"""The end of a job: its pictures are kept and its state is settled, in order, on one thread."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from PIL import Image

from studio.attachments import NO_ATTACHMENTS
from studio.dispatcher import Dispatcher
from studio.encoder import Encoder
from studio.errors import CroquisError
from studio.estimates import Estimates
from studio.jobs import Job, JobState
from studio.library import Library
from studio.recipes import Recipe

_BUG = "Something went wrong while drawing. It is noted; please try again."
_log = logging.getLogger(__name__)


class Keeper:
    """Does what the engine need not wait for, as long as the disk takes pictures fast enough."""

    def __init__(self, library: Library, dispatcher: Dispatcher, estimates: Estimates) -> None:
        self._library = library
        self._dispatcher = dispatcher
        self._estimates = estimates
        self._encoder = Encoder(on_idle=dispatcher.save_late)

    def start(self) -> None:
        """Start the thread."""
        self._encoder.start()

    def close(self) -> None:
        """Finish what was handed over, then end the thread."""
        self._encoder.close()

    def keep(
        self,
        job: Job,
        image: Image.Image,
        recipe: Recipe,
        attachments: Mapping[str, bytes] = NO_ATTACHMENTS,
    ) -> None:
        """Encode and store a picture and what belongs to it; a failure fails the job."""
        self._estimates.on_picture(job.id)
        self._encoder.submit(lambda: self._add(job, image, recipe, attachments))

    def settle(self, job_id: str, state: JobState, error: str | None = None) -> None:
        """Give a job its final state after all of its pictures are kept."""
        self._encoder.submit(lambda: self._settle(job_id, state, error))

    def fail(self, job_id: str, error: Exception) -> None:
        """Settle a job that could not be drawn; what is no CroquisError is a bug and is logged."""
        text = _explained(error)
        if text is _BUG:
            _log.error("Job %s failed", job_id, exc_info=error)
        self.settle(job_id, JobState.FAILED, text)

    def _add(
        self, job: Job, image: Image.Image, recipe: Recipe, attachments: Mapping[str, bytes]
    ) -> None:
        try:
            self._library.add(job, image, recipe, attachments)
        except Exception as exc:  # the last stop of this thread: a picture must not vanish
            _log.exception("A picture of job %s could not be kept", job.id)
            self._settle(job.id, JobState.FAILED, _explained(exc))

    def _settle(self, job_id: str, state: JobState, error: str | None) -> None:
        self._dispatcher.settle(job_id, state, error)
        if state is JobState.DONE:
            self._estimates.finish(job_id)
        else:
            self._estimates.drop(job_id)


def _explained(error: Exception) -> str:
    return str(error) if isinstance(error, CroquisError) else _BUG
