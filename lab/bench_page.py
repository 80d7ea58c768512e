"""How long a fresh process takes until its page is served: Croquis, and a bare Gradio page."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lab.serving import free_port, wait_for_page

ROOT = Path(__file__).resolve().parent.parent
BARE_PAGE = """
import os
import gradio as gr

with gr.Blocks() as page:
    prompt = gr.Textbox(label="Prompt")
    create = gr.Button("Create")
    steps = gr.Slider(1, 100, 20, label="Steps")
    scheduler = gr.Dropdown(["euler", "ddim"], label="Scheduler")
    picture = gr.Image(label="Picture")
    gallery = gr.Gallery(label="Gallery")
    create.click(lambda prompt, steps, scheduler: None, [prompt, steps, scheduler], picture)
page.launch(server_name="127.0.0.1", server_port=int(os.environ["CROQUIS_PORT"]), quiet=True)
"""


def time_croquis() -> float:
    """Seconds from the start of `app.py` to its page."""
    with tempfile.TemporaryDirectory() as data_dir:
        return _time_page([sys.executable, "app.py"], {"CROQUIS_DATA_DIR": data_dir})


def time_bare_page() -> float:
    """Seconds from the start of a bare Gradio page with the same few components to its page."""
    return _time_page([sys.executable, "-c", BARE_PAGE], {})


def _time_page(command: list[str], settings: dict[str, str]) -> float:
    port = free_port()
    environ = {
        **os.environ,
        **settings,
        "CROQUIS_HOST": "127.0.0.1",
        "CROQUIS_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    started = time.perf_counter()
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            wait_for_page(f"http://127.0.0.1:{port}/", server, pause_s=0.02)
            return time.perf_counter() - started
        finally:
            server.kill()
