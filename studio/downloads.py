"""Downloads that a visitor of the Models tab asked for: one at a time, known to every page."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

from studio.errors import Cancelled, InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One download, and how far it is."""

    model: str
    """Key of the model."""
    state: Literal["waiting", "running", "done", "stopped", "failed"] = "waiting"
    message: str = ""
    """How far it is, or why it failed."""

    @property
    def is_active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("waiting", "running")


class Downloads:
    """A queue of models to download, and the last result of each. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._known: dict[str, Download] = {}

    # The page's side

    def ask(self, model: str) -> None:
        """Put a model at the end of the queue; raises InvalidRequest if it is there already."""
        with self._changed:
            before = self._known.get(model)
            if before is not None and before.is_active:
                raise InvalidRequest("This model is being downloaded already.")
            self._known[model] = Download(model=model)
            self._waiting.append(model)
            self._changed.notify_all()

    def stop(self, model: str) -> None:
        """Stop a download, within seconds if it runs; nothing if there is none."""
        with self._changed:
            before = self._known.get(model)
            if before is None or not before.is_active:
                return
            if model in self._waiting:
                self._waiting.remove(model)
            self._known[model] = replace(before, state="stopped", message="")

    def of(self, model: str) -> Download | None:
        """The last download of a model since the server began."""
        with self._changed:
            return self._known.get(model)

    def active(self) -> list[Download]:
        """Those that wait or run, in their order."""
        with self._changed:
            return [one for one in self._known.values() if one.is_active]

    def forget(self, model: str) -> None:
        """Tell no more how the last download of a model ended."""
        with self._changed:
            before = self._known.get(model)
            if before is not None and not before.is_active:
                del self._known[model]

    # The downloader's side

    def take(self, timeout_s: float) -> str | None:
        """Wait for the next model to download; None when time is up."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._waiting), timeout_s):
                return None
            model = self._waiting.popleft()
            self._known[model] = Download(model=model, state="running")
            return model

    def report(self, model: str, message: str) -> None:
        """Say how far it is; raises Cancelled if it was stopped."""
        with self._changed:
            before = self._known.get(model)
            if before is None or before.state != "running":
                raise Cancelled("Stopped.")
            self._known[model] = replace(before, message=message)

    def end(self, model: str, error: str = "") -> None:
        """It is over; `error` says why it failed. One that was stopped stays so."""
        with self._changed:
            before = self._known.get(model)
            if before is not None and before.state == "running":
                state: Literal["done", "failed"] = "failed" if error else "done"
                self._known[model] = replace(before, state=state, message=error)
