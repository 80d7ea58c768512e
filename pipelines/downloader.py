"""One thread that fetches what the Models tab asks for, beside the engine's drawing."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from pipelines.hub import fetch_all
from studio.errors import Cancelled, CroquisError

if TYPE_CHECKING:
    from studio.settings import Settings
    from studio.studio import Studio

POLL_S = 0.5
BUG = "This download failed by a fault of Croquis itself; the server's log has the details."

log = logging.getLogger(__name__)


class Downloader:
    """Downloads models, one after the other. Needs no torch."""

    def __init__(self, studio: Studio, settings: Settings) -> None:
        self._studio = studio
        self._settings = settings
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="croquis-downloads", daemon=True)

    def start(self) -> None:
        """Begin to take downloads; returns at once."""
        self._thread.start()

    def close(self) -> None:
        """Stop what runs; what has come stays on disk for the next time."""
        self._is_closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_closing.is_set():
            key = self._studio.downloads.take(POLL_S)
            if key is not None:
                self._fetch(key)

    def _fetch(self, key: str) -> None:
        downloads = self._studio.downloads

        def on_message(text: str) -> None:
            if self._is_closing.is_set():
                raise Cancelled("Croquis is shutting down.")
            downloads.report(key, text)

        try:
            fetch_all(self._studio.catalogue.get_model(key), self._settings, on_message)
        except Cancelled:
            log.info("The download of %s was stopped", key)
        except CroquisError as exc:
            downloads.end(key, str(exc))
        except Exception:
            log.exception("%s could not be downloaded", key)
            downloads.end(key, BUG)
        else:
            downloads.end(key)
