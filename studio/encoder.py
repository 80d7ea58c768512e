"""One thread that does what the engine must not wait for: encoding and keeping pictures."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

_Task = Callable[[], None]
_WAITING_TASKS = 32
"""More than that, and the engine waits: pictures come faster than the disk takes them."""

_log = logging.getLogger(__name__)


class Encoder:
    """Runs tasks one after another, in the order in which they came."""

    def __init__(self, on_idle: _Task, idle_s: float = 1.0) -> None:
        self._on_idle = on_idle
        self._idle_s = idle_s
        self._tasks: queue.Queue[_Task | None] = queue.Queue(_WAITING_TASKS)
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, task: _Task) -> None:
        """Do this after all that was submitted before."""
        self._tasks.put(task)

    def close(self) -> None:
        """Finish what was submitted, then end the thread."""
        if self._thread.is_alive():
            self._tasks.put(None)
            self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                task = self._tasks.get(timeout=self._idle_s)
            except queue.Empty:
                task = self._on_idle
            if task is None:
                return
            try:
                task()
            except Exception:
                _log.exception("A task of the encoder failed")
