"""The server process from outside: it stops in order, and says why when it cannot start."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from gradio_client import Client

ROOT = Path(__file__).resolve().parents[1]


def start_app(folder: Path, **environ: str) -> subprocess.Popen[str]:
    settings = {"CROQUIS_DATA_DIR": str(folder), "CROQUIS_PORT": "0", **environ}
    return subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={**os.environ, **settings},
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(app: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """The first line of the log that matches; the test fails when the log ends before."""
    assert app.stderr is not None
    for line in app.stderr:
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"the log ended without {pattern!r}")


def stored_jobs(folder: Path) -> list[tuple[str, int]]:
    with sqlite3.connect(folder / "croquis.db") as database:
        return database.execute("select state, attempts from jobs").fetchall()


def test_sigterm_closes_in_order_with_a_tab_open(tmp_path: Path) -> None:
    app = start_app(tmp_path)
    url = read_until(app, r"http://127\.0\.0\.1:\d+")[0]
    read_until(app, "builtin is ready")
    client = Client(url, verbose=False)
    client.submit("a cat", num_inference_steps=200, num_images=8, api_name="/generate")
    with urllib.request.urlopen(f"{url}/gradio_api/heartbeat/tab", timeout=60):
        while not any(state in ("loading", "running") for state, _ in stored_jobs(tmp_path)):
            time.sleep(0.1)
        app.send_signal(signal.SIGTERM)
        assert app.wait(60) == 0
    assert stored_jobs(tmp_path) == [("queued", 0)]


def test_a_port_that_is_taken_ends_the_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        app = start_app(tmp_path, CROQUIS_PORT=str(taken.getsockname()[1]))
        read_until(app, "address already in use")
        assert app.wait(60) == 2


def test_a_device_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    app = start_app(tmp_path, CROQUIS_DEVICE="mps")
    read_until(app, "Croquis cannot draw. `CROQUIS_DEVICE` asks for 'mps'")
    assert app.wait(60) == 2


def test_a_wrong_setting_ends_the_start(tmp_path: Path) -> None:
    app = start_app(tmp_path, CROQUIS_QUEUE_LIMIT="many")
    read_until(app, "Croquis cannot start. `CROQUIS_QUEUE_LIMIT` must be")
    assert app.wait(60) == 2
