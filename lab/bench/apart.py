"""The bare script in a process of its own, or on a thread that ends.

Where two threads of one process have run torch's loops, OpenMP's runtime counts more threads than
cores, and its waiting threads sleep at once instead of looking on: all loops take twice as long.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TypeVar

import diffusers

from lab.bench.stage import BareScript, Stage
from studio.request import GenerationRequest

Made = TypeVar("Made")


class ScriptApart:
    """Asks the script in the other process, which rests meanwhile."""

    def __init__(self, line: Connection) -> None:
        self._line = line

    def time(self, request: GenerationRequest) -> float:
        """Seconds of one picture, measured there.

        Raises:
            EOFError: the other process has ended.
        """
        self._line.send(request)
        return float(self._line.recv())


@contextmanager
def script_apart(stage: Stage) -> Iterator[ScriptApart]:
    """The script of a stage, ready to draw inside the block."""
    apart = multiprocessing.get_context("spawn")
    ours, theirs = apart.Pipe()
    script = apart.Process(target=_serve, args=(theirs, stage), daemon=True)
    script.start()
    theirs.close()
    try:
        yield ScriptApart(ours)
    finally:
        ours.close()
        script.join()


def on_a_thread_that_ends(work: Callable[[], Made]) -> Made:
    """Do what draws without the engine; afterwards the engine's thread is the only one again."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def _serve(line: Connection, stage: Stage) -> None:
    """Draw what is asked for until nobody can ask any more."""
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    script = BareScript(stage)
    while True:
        try:
            line.send(script.time(line.recv()))
        except EOFError:
            return
