"""A page that another process serves, and the browser that opens it."""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LONGEST_S = 120.0
"""What a start may take on a busy machine of two cores."""


def find_chromium() -> str | None:
    """The machine's own browser; None leaves Playwright to the one it has installed."""
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_page(url: str, server: subprocess.Popen[bytes], pause_s: float = 0.1) -> None:
    """Wait until the server process answers.

    Raises:
        RuntimeError: it ended, or it did not answer within `LONGEST_S`.
    """
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=LONGEST_S).close()
            return
        except (urllib.error.URLError, http.client.HTTPException, OSError):
            time.sleep(pause_s)
    raise RuntimeError(f"{url} was not served (exit status {server.poll()})")
