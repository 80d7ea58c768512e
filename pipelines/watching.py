"""Passes what happens in a drawing on to the studio, and what its visitor wants back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.errors import Cancelled

if TYPE_CHECKING:
    from studio.studio import Studio


@dataclass(slots=True)
class JobWatcher:
    """Follows one job; see `pipelines.steps.Watcher`."""

    studio: Studio
    job_id: str
    is_closing: threading.Event
    pause: Callable[[], None]
    """Lets other jobs make a step."""
    is_enlarging: bool = False
    """What is shown is how a drawn picture grows, not the steps of the next one."""

    def is_cancelled(self) -> bool:
        return self.is_closing.is_set() or self.studio.is_cancelled(self.job_id)

    def is_watched(self) -> bool:
        """Whether somebody would see a preview."""
        return self.studio.is_watched(self.job_id)

    def on_message(self, text: str) -> None:
        """Show why the job does not draw yet; a download too stops when the job is cancelled."""
        self.stop_if_cancelled()
        self.studio.report_loading(self.job_id, text)

    def stop_if_cancelled(self) -> None:
        """Raise Cancelled if the visitor, or the end of the server, wants it."""
        if self.is_cancelled():
            raise Cancelled("Stopped.")

    def on_step(
        self, step: int, total_steps: int, image_index: int, preview: bytes | None, batch: int
    ) -> None:
        if not self.is_enlarging:
            self.studio.report_step(self.job_id, step, total_steps, image_index, preview, batch)

    def on_tile_of(self, image_index: int, preview: bytes) -> Callable[[int, int], None]:
        """What the upscaler tells of a drawn picture, shown as it goes; it may stop there."""

        def on_tile(done: int, total: int) -> None:
            self.stop_if_cancelled()
            self.studio.report_enlarging(self.job_id, done, total, image_index, preview)
            self.is_enlarging = done < total
            self.pause()

        return on_tile

    def on_tile(self, done: int, total: int, preview: bytes) -> None:
        """What the upscaler tells of a kept picture."""
        self.stop_if_cancelled()
        self.on_step(done, total, 0, preview, batch=1)
        self.pause()

    def add_note(self, text: str) -> None:
        self.studio.add_note(self.job_id, text)
