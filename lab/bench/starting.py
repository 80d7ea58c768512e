"""How long a fresh program takes: until its page is served, until its first picture is there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from lab.bench.effort import Effort
from lab.bench.stage import Stage
from lab.bench.table import Row, ratio_row
from lab.bench.timing import interleave
from lab.serving import LONGEST_S, free_port, wait_for_page
from studio.settings import ROOT
from studio.studio import Studio

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
FULL_PAGE = "import torch\nfrom diffusers import StableDiffusionPipeline\n" + BARE_PAGE
"""What most programs of this kind do: first they import all that they will need."""
BARE_SCRIPT = """
import os, sys
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained(sys.argv[1])
picture = pipeline(sys.argv[2], num_inference_steps=int(sys.argv[3])).images[0]
picture.save(sys.argv[4] + ".part", "PNG")
os.rename(sys.argv[4] + ".part", sys.argv[4])
"""
POLL_S = 0.01


def measure_pages(effort: Effort) -> list[Row]:
    """Start of the process to HTTP 200."""

    def croquis() -> float:
        with TemporaryDirectory() as folder:
            return _seconds_to_page(["app.py"], {"CROQUIS_DATA_DIR": folder})

    taken = interleave(
        {
            "croquis": croquis,
            "bare": lambda: _seconds_to_page(["-c", BARE_PAGE]),
            "full": lambda: _seconds_to_page(["-c", FULL_PAGE]),
        },
        effort.long_rounds,
    )
    ours = taken["croquis"]
    return [
        ratio_row("page served / a bare Gradio page", ours, taken["bare"], 1.15),
        ratio_row("page served / a page that imports torch first", ours, taken["full"], 0.5),
    ]


def measure_first_picture(stage: Stage, effort: Effort) -> list[Row]:
    """Start of the process to the first picture on disk. In Croquis its visitor waits already."""
    taken = interleave(
        {"ours": lambda: _seconds_of_croquis(stage), "bare": lambda: _seconds_of_script(stage)},
        effort.long_rounds,
        warm_ups=0,
    )
    what = f"{stage.title}: start to first picture / the bare script's"
    return [ratio_row(what, taken["ours"], taken["bare"], 1.25)]


def _seconds_of_croquis(stage: Stage) -> float:
    with TemporaryDirectory() as name:
        folder = Path(name)
        studio = Studio(replace(stage.settings, data_dir=folder, database_url=""), stage.catalogue)
        studio.start()
        studio.submit(stage.request, "visitor")
        studio.close()
        environ = {"CROQUIS_DATA_DIR": name, "CROQUIS_DEVICE": stage.device}
        pictures = folder / "pictures"
        return _seconds_until(lambda: any(pictures.rglob("*.png")), ["app.py"], environ)


def _seconds_of_script(stage: Stage) -> float:
    request = stage.request
    with TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        arguments = [stage.folder, request.prompt, request.num_inference_steps, picture]
        return _seconds_until(picture.is_file, ["-c", BARE_SCRIPT, *map(str, arguments)], {})


def _seconds_to_page(arguments: list[str], settings: dict[str, str] | None = None) -> float:
    started = time.perf_counter()
    with _running(arguments, settings or {}) as (program, port):
        wait_for_page(f"http://127.0.0.1:{port}/", program, pause_s=2 * POLL_S)
        return time.perf_counter() - started


def _seconds_until(
    is_there: Callable[[], bool], arguments: list[str], settings: dict[str, str]
) -> float:
    started = time.perf_counter()
    with _running(arguments, settings) as (program, _):
        while not is_there():
            seconds = time.perf_counter() - started
            has_failed = program.poll() not in (None, 0)
            if has_failed or seconds > LONGEST_S:
                raise RuntimeError(f"No picture was drawn (exit status {program.poll()})")
            time.sleep(POLL_S)
        return time.perf_counter() - started


@contextmanager
def _running(
    arguments: list[str], settings: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A Python program and the port that it was told to listen on; killed at the end."""
    port = free_port()
    environ = {
        **os.environ,
        **settings,
        "CROQUIS_HOST": "127.0.0.1",
        "CROQUIS_PORT": str(port),
        "CROQUIS_OFFLINE": "1",
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, cwd=ROOT, env=environ, **quiet) as program:  # type: ignore[call-overload]
        try:
            yield program, port
        finally:
            program.kill()
