"""One thread per device: takes jobs from the studio and draws them, many at once, step by step."""

from __future__ import annotations

import functools
import logging
import queue
import threading
from typing import TYPE_CHECKING

from pipelines.admission import Admission
from pipelines.company import Company
from pipelines.device import pick_device, tune_threads
from pipelines.drawing import draw as draw_in_company
from pipelines.knees import Knees
from pipelines.running import Draw, JobRunner
from pipelines.sketching import Sketcher
from pipelines.stepping import Denoise, Stepper, call_plainly
from pipelines.upscale import Upscaler
from studio.errors import Cancelled, CroquisError

if TYPE_CHECKING:
    from pipelines.manager import PipelineManager
    from studio.jobs import Job
    from studio.settings import Settings
    from studio.studio import Studio

POLL_S = 0.5
KNEES = "knees.json"

log = logging.getLogger(__name__)


class Engine:
    """Draws the studio's jobs on one device.

    Args:
        denoise: makes the calls of the denoisers.
        draw: draws the pictures of one job after the other in the place of this engine, which
            then draws none beside another.
    """

    def __init__(
        self,
        studio: Studio,
        manager: PipelineManager,
        settings: Settings,
        draw: Draw | None = None,
        denoise: Denoise = call_plainly,
    ) -> None:
        self._studio = studio
        self._manager = manager
        self._settings = settings
        self._to_warm: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._is_closing = threading.Event()
        self._stepper = Stepper(denoise, Knees(settings.data_dir / KNEES))
        self._admission = Admission(studio.catalogue, manager.fits, is_one_by_one=draw is not None)
        draw = draw or functools.partial(draw_in_company, company=Company(self._stepper))
        self._runner = JobRunner(
            studio,
            manager,
            settings,
            draw,
            self._stepper.pause,
            self._admission.learn,
            self._is_closing,
        )
        upscaler = Upscaler(pick_device(settings))
        self._sketcher = Sketcher(studio, manager, self._stepper, draw, upscaler, self._is_closing)
        self._thread = threading.Thread(target=self._run, name="croquis-engine", daemon=True)

    def start(self) -> None:
        """Begin to take jobs; returns at once."""
        self._thread.start()

    def warm(self, key: str) -> None:
        """Load a model when no job waits, so that the first picture need not wait for it."""
        self._to_warm.put(key)

    def close(self) -> None:
        """Stop after the current step, and free the models. What was running is queued again."""
        self._is_closing.set()
        self._thread.join()
        self._manager.close()

    def _run(self) -> None:
        """Work until closed. Models are loaded here too: that changes torch's global state."""
        tune_threads(self._settings)
        while not self._is_closing.is_set():
            try:
                self._work()
            except Exception:
                log.exception("The engine could not take or load anything; it tries again")
                self._is_closing.wait(POLL_S)
        self._stepper.close(Cancelled("Croquis is shutting down."))

    def _work(self) -> None:
        """Let jobs in, and make a step of those that are drawn; if none is, load in advance."""
        while self._let_in():
            pass
        self._sketcher.let_in(beside_jobs=len(self._admission) > 0)
        if len(self._stepper):
            self._stepper.step()
        elif not self._to_warm.empty():
            self._load(self._to_warm.get())

    def _let_in(self) -> bool:
        """Take one job, if one waits that may be drawn now; sleeps only if there is no work."""
        is_busy = len(self._stepper) > 0 or not self._to_warm.empty()
        self._admission.open()
        job = self._studio.take(0 if is_busy else POLL_S, self._admission.may_enter)
        if job is not None:
            self._admission.enter(job)
            work = functools.partial(self._run_job, job)
            self._stepper.spawn(job.owner, work, is_exact=job.request.exact)
        return job is not None

    def _run_job(self, job: Job) -> None:
        try:
            self._runner.run(job)
        finally:
            self._admission.leave(job)

    def _load(self, key: str) -> None:
        try:
            with self._manager.borrow(key, self._stop_if_closing):
                log.info("%s is ready", key)
        except CroquisError as exc:
            log.warning("%s was not loaded in advance: %s", key, exc)

    def _stop_if_closing(self, message: str) -> None:
        if self._is_closing.is_set():
            raise Cancelled("Croquis is shutting down.")
