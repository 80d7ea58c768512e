"""Kill the studio with SIGKILL in the middle of its work, start it again, count what was lost.

Each run forks a child that draws real pictures, kills it at a random moment, starts a second child
on the same data and lets it come to rest. The parent imports torch once, so that a run takes
about as long as its pictures.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from pipelines.engine import Engine
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.jobs import JobState
from studio.settings import Settings
from studio.studio import Studio

OWNER = "0" * 32
NUM_JOBS = 4
REST_S = 120.0


@dataclasses.dataclass(frozen=True, slots=True)
class Survey:
    """What one run left behind."""

    states: Counter[str]
    """States of the accepted jobs after the restart; "lost" is a job without a row."""
    broken_pictures: int
    rows_without_file: int
    files_without_row: int

    @property
    def is_whole(self) -> bool:
        """Every accepted job is finished or cancelled, and files and rows agree."""
        ends = {JobState.DONE.value, JobState.CANCELLED.value}
        faults = self.broken_pictures + self.rows_without_file + self.files_without_row
        return not faults and set(self.states) <= ends


def main() -> int:
    """Print one line per run and a sum; returns 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m lab.crash", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model-path", type=Path, help="a checkpoint to use for the built-in one")
    parser.add_argument("--longest-s", type=float, default=4.0, help="latest moment of the kill")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clock = random.Random(options.seed)
    whole = 0
    for run in range(options.runs):
        delay_s = clock.uniform(0.0, options.longest_s)
        with tempfile.TemporaryDirectory() as folder:
            survey = crash_once(Path(folder), delay_s, options.model_path)
        whole += survey.is_whole
        print(f"run {run + 1:2}: killed after {delay_s:.2f} s, {_words(survey)}", flush=True)
    print(f"{whole} of {options.runs} runs lost nothing")
    return 0 if whole == options.runs else 1


def crash_once(folder: Path, delay_s: float, model_path: Path | None = None) -> Survey:
    """Accept jobs, kill the process `delay_s` after its start, restart, and look."""
    settings = _settings(folder, model_path)
    reader, writer = os.pipe()
    child = _fork(lambda: _accept_and_draw(settings, writer))
    os.close(writer)
    time.sleep(delay_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    accepted = _read_all(reader).split()
    second = _fork(lambda: _come_to_rest(settings))
    _, status = os.waitpid(second, 0)
    if status:
        raise RuntimeError("The studio did not come to rest after its restart; see the log above.")
    return _survey(settings, accepted)


def _accept_and_draw(settings: Settings, writer: int) -> None:
    """Submit jobs, tell the parent which were accepted, stop one, draw until killed."""
    studio = start_studio(settings)
    for number in range(NUM_JOBS):
        request = studio.default_request("builtin", "a red and white polka dot pattern")
        request = dataclasses.replace(request, num_images=2, num_inference_steps=6, seed=number)
        job = studio.submit(request, OWNER)
        os.write(writer, f"{job.id}\n".encode())
        if number == NUM_JOBS - 1:
            studio.cancel(job.id, OWNER)
    time.sleep(REST_S)


def _come_to_rest(settings: Settings) -> None:
    studio = start_studio(settings)
    deadline = time.monotonic() + REST_S
    while studio.jobs(OWNER, active_only=True):
        if time.monotonic() > deadline:
            raise TimeoutError("jobs are still active")
        time.sleep(0.05)
    studio.close()


def _survey(settings: Settings, accepted: list[str]) -> Survey:
    studio = Studio(settings, _catalogue(settings))
    jobs = {job.id: job for job in studio.jobs(OWNER, limit=1000)}
    states = Counter(jobs[key].state.value if key in jobs else "lost" for key in accepted)
    pictures = studio.pictures(OWNER, limit=1000)
    recorded = {path for picture in pictures for path in (picture.path, picture.thumbnail_path)}
    folder = settings.data_dir / "pictures"
    found = {path for path in folder.rglob("*") if path.is_file()}
    broken = sum(not _opens(path) for path in found)
    studio.close()
    return Survey(states, broken, len(recorded - found), len(found - recorded))


def _opens(path: Path) -> bool:
    """Whether every pixel of the picture can be decoded."""
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True


def start_studio(settings: Settings) -> Studio:
    """A studio at work, as app.py puts it together, without the page."""
    catalogue = _catalogue(settings)
    studio = Studio(settings, catalogue)
    studio.start()
    manager = PipelineManager(catalogue, Loader(settings), budget_bytes=2**30)
    Engine(studio, manager, settings).start()
    return studio


def _settings(folder: Path, model_path: Path | None) -> Settings:
    environ = {"CROQUIS_DATA_DIR": str(folder), "CROQUIS_CPU_THREADS": "1"}
    if model_path:
        environ["CROQUIS_MODEL_PATHS"] = f"builtin={model_path}"
    return Settings.from_environment(environ)


def _catalogue(settings: Settings) -> Catalogue:
    return Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings)


def _fork(work: Callable[[], None]) -> int:
    """Run `work` in a forked child, whose exit status is 0 if it returns; the child's pid."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    except BaseException as exc:
        os.write(2, f"{type(exc).__name__}: {exc}\n".encode())
        os._exit(1)
    os._exit(0)


def _read_all(reader: int) -> str:
    """What the dead child had written; an empty pipe is an empty answer."""
    with os.fdopen(reader, "rb") as pipe:
        ready, _, _ = select.select([pipe], [], [], 1.0)
        return pipe.read().decode() if ready else ""


def _words(survey: Survey) -> str:
    states = ", ".join(f"{count} {state}" for state, count in sorted(survey.states.items()))
    return (
        f"{sum(survey.states.values())} jobs accepted ({states or 'none'}); "
        f"{survey.broken_pictures} broken pictures, {survey.rows_without_file} rows without a "
        f"file, {survey.files_without_row} files without a row"
    )


if __name__ == "__main__":
    sys.exit(main())
