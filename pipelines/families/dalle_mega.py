"""DALL-E Mega by min-dalle, an optional extra, in a process of its own (see dalle_worker)."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import json
import logging
import os
import queue
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from pipelines.families import Batch, Result, Steps
from studio.errors import CroquisError, ModelUnavailable, OutOfMemory
from studio.settings import ROOT

if TYPE_CHECKING:
    from pipelines.checkpoints import Checkpoint, OnMessage
    from studio.specs import ModelSpec

SOURCE_FILES = ("encoder.pt", "decoder.pt", "detoker.pt", "vocab.json", "merges.txt")
TOKENS = 256
"""Of a picture; each is a step."""
POLL_S = 0.2
STOPPED_BY_SYSTEM = -9
"""How a process ends when the system stops it, as it does where memory runs out."""

log = logging.getLogger(__name__)


class Worker:
    """A process that draws with min-dalle; it ends when nothing refers to this object any more.

    In a loaded model it stands where others have a pipeline.
    """

    def __init__(self, title: str, folder: Path, device: str, dtype: torch.dtype) -> None:
        self.components: dict[str, object] = {}
        self.device = torch.device(device)
        self._title = title
        named = str(dtype).removeprefix("torch.")
        self._arguments = ["draw", str(folder), device, named, str(torch.get_num_threads())]
        self._begin()

    def draw(self, order: dict[str, Any], steps: Steps) -> Result:
        """Draw one picture of 256 px, and count its tokens as steps.

        Args:
            order: `prompt`, `seed` and `guidance`.

        Raises:
            Cancelled: at the next token, or while the weights are loaded.
            OutOfMemory, ModelUnavailable: the process ended. The next order starts another.
        """
        if self._child.poll() is not None:
            self._begin()
        try:
            self._say(order)
            return self._listen(steps)
        except BaseException:
            self._end()  # whatever it does now, nobody waits for it
            raise

    def _listen(self, steps: Steps) -> Result:
        while True:
            try:
                message = self._heard.get(timeout=POLL_S)
            except queue.Empty:
                if not self._is_ready:
                    steps.wait(f"Loading {self._title}")
                continue
            if message is None:
                raise self._why_ended()
            self._is_ready = True
            if failure := message.get("failed"):
                raise self._failure(failure)
            if "token" in message:
                preview = message.get("preview")
                steps.advance(base64.b64decode(preview) if preview else None)
            if "picture" in message:
                return _result(message)

    def _say(self, order: dict[str, Any]) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(order) + "\n")
            self._child.stdin.flush()
        except OSError:
            log.info("DALL-E Mega's process is gone already")  # `_listen` says why

    def _begin(self) -> None:
        self._child = start_worker(self._arguments)
        self._is_ready = False
        self._heard: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        heard, answers = self._heard, self._child.stdout
        threading.Thread(target=_hear, args=(answers, heard), name="dalle", daemon=True).start()
        self._end = weakref.finalize(self, _stop, self._child)

    def _why_ended(self) -> CroquisError:
        code = self._child.wait()
        return self._failure("memory" if code == STOPPED_BY_SYSTEM else f"exit status {code}")

    def _failure(self, cause: str) -> CroquisError:
        if cause == "memory":
            return OutOfMemory(
                f"{self._title} does not fit into the memory of this machine. Choose a smaller "
                "model, or lower `CROQUIS_MEMORY_BUDGET_GB` so that others make room."
            )
        return ModelUnavailable(
            f"{self._title} draws in a process of its own, which ended unexpectedly ({cause}); "
            "the server's log says more. Try again: a new one is started."
        )


def load_pipeline(checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> Worker:
    """Start a process that loads the weights; the first picture waits for it.

    float32 but on cuda, where alone min-dalle calculates in the weights' own dtype.
    """
    dtype = dtype if device.startswith("cuda") else torch.float32
    return Worker(checkpoint.spec.title, checkpoint.folder, device, dtype)


def draw_batch(batch: Batch) -> list[Result]:
    """Draw one picture for each seed, one after the other, so that a seed repeats its picture."""
    worker: Any = batch.loaded.pipeline
    batch.steps.begin(TOKENS * len(batch.seeds))
    request = batch.request
    order = {"prompt": request.prompt, "guidance": request.guidance_scale}
    return [worker.draw({**order, "seed": seed}, batch.steps) for seed in batch.seeds]


def converted(spec: ModelSpec, folder: Path, kept: Path, on_message: OnMessage) -> Path:
    """Return a folder with the weights as safetensors, made from min-dalle's .pt files once.

    Args:
        folder: as it was downloaded, or as the host has it; one that was converted is returned.
        kept: where a folder for the converted files is made.
        on_message: called several times a second; what it raises ends the conversion.

    Raises:
        ModelUnavailable: min-dalle is not installed, or files are missing or damaged.
    """
    if importlib.util.find_spec("min_dalle") is None:
        raise ModelUnavailable(
            f"{spec.title} needs a package that is not installed. The host of this Croquis can "
            "add it: `pip install -r requirements-dalle.txt`."
        )
    if (folder / "model_index.json").is_file():
        return folder
    missing = [name for name in SOURCE_FILES if not (folder / name).is_file()]
    if missing:
        raise ModelUnavailable(
            f"{spec.title}: the folder “{folder.name}” lacks {', '.join(missing)}. It must hold "
            "the files of kuprel/min-dalle on the Hub."
        )
    target = kept / f"{spec.key}-{_state_of(folder)}"
    if not target.is_dir():
        _convert(spec, folder, target, on_message)
    return target


def _convert(spec: ModelSpec, folder: Path, target: Path, on_message: OnMessage) -> None:
    child = start_worker(["convert", str(folder), str(target)])
    try:
        while True:
            on_message(f"Converting the weights of {spec.title} to safetensors, this once")
            with suppress(subprocess.TimeoutExpired):
                child.wait(POLL_S)
                break
    finally:
        _stop(child)
    if child.returncode:
        raise ModelUnavailable(
            f"{spec.title}: a file in “{folder.name}” is damaged, or holds other things than "
            "weights, which Croquis does not open. Get the files anew from kuprel/min-dalle."
        )


def _state_of(folder: Path) -> str:
    """Name the files as they are now: other ones, or newer ones, are converted anew."""
    states = [(folder / name).stat() for name in SOURCE_FILES]
    told = "-".join(f"{state.st_size}.{state.st_mtime_ns}" for state in states)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def start_worker(arguments: list[str]) -> subprocess.Popen[str]:
    """Start dalle_worker, without the secrets of this process; its errors go to our log."""
    secret = ("CROQUIS_", "HF_", "HUGGING_FACE")
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.families.dalle_worker", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={name: text for name, text in os.environ.items() if not name.startswith(secret)},
        encoding="utf-8",
    )


def _stop(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _hear(answers: IO[str], heard: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    """Pass on what a worker says; None is that it ended."""
    try:
        for line in answers:
            heard.put(json.loads(line))
    except ValueError:
        log.warning("DALL-E Mega's process was cut off in mid-sentence")
    heard.put(None)


def _result(message: dict[str, Any]) -> Result:
    picture = Image.open(io.BytesIO(base64.b64decode(message["picture"])))
    return Result(np.asarray(picture, dtype=np.float32) / 255, notes=tuple(message["notes"]))
