"""DALL-E Mega: a real process of its own with tiny weights, and what happens when it fails."""

from __future__ import annotations

import importlib.util
import io
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import COMMIT, HubServer
from PIL import Image
from test_hub import run
from tiny_families.dalle import save_tiny_dalle
from tiny_house import RecordingWatcher

from pipelines.drawing import draw
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.errors import Cancelled, InvalidRequest, ModelUnavailable, OutOfMemory
from studio.request import GenerationRequest
from studio.settings import ROOT, Settings

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("min_dalle") is None,
    reason="min-dalle is not installed: pip install -r requirements-dalle.txt",
)
KEY = "dalle-mega"
TOKENS = 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny weights in min-dalle's own files."""
    return save_tiny_dalle(tmp_path_factory.mktemp("dalle"))


def catalogue_of(folder: Path, kept: Path) -> tuple[Settings, Catalogue]:
    settings = Settings(
        device="cpu", offline=True, cpu_threads=1, model_paths={KEY: folder}, data_dir=kept
    )
    return settings, Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings)


def manager_of(folder: Path, kept: Path) -> PipelineManager:
    settings, catalogue = catalogue_of(folder, kept)
    return PipelineManager(catalogue, Loader(settings), 10**10)


@pytest.fixture(scope="module")
def manager(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineManager]:
    manager = manager_of(folder, tmp_path_factory.mktemp("kept"))
    yield manager
    manager.close()


def order(**changes: object) -> GenerationRequest:
    full = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, Settings())
    return replace(full.default_request(KEY, "a cat"), seed=0, **changes)


def paint(
    manager: PipelineManager, request: GenerationRequest, watcher: RecordingWatcher | None = None
) -> list[np.ndarray]:
    full = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, Settings())
    own = full.get_scheduler(request.scheduler)
    with manager.borrow(KEY) as loaded:
        indices = range(request.num_images)
        drawn = draw(loaded, own, request, indices, watcher or RecordingWatcher())
        return [np.asarray(one.image) for one in drawn]


def child_of(manager: PipelineManager) -> int:
    """The number of the process that draws."""
    with manager.borrow(KEY) as loaded:
        return loaded.pipeline._child.pid


def is_running(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def first(manager: PipelineManager) -> tuple[np.ndarray, RecordingWatcher]:
    """A picture, and what was reported meanwhile."""
    watcher = RecordingWatcher()
    [picture] = paint(manager, order(), watcher)
    return picture, watcher


Drawn = tuple[np.ndarray, RecordingWatcher]


def test_a_picture_is_drawn_token_by_token_with_a_preview(first: Drawn) -> None:
    picture, watcher = first
    assert picture.shape == (256, 256, 3)
    assert picture.std() > 5
    assert watcher.steps == [(step, TOKENS, 0) for step in range(TOKENS + 1)]
    assert watcher.previews
    assert Image.open(io.BytesIO(watcher.previews[0])).size == (256, 256)
    assert not watcher.notes


def test_what_min_dalle_does_to_torch_stays_in_its_own_process(first: Drawn) -> None:
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == 1
    assert "min_dalle" not in sys.modules


def test_the_weights_are_safetensors_by_the_time_they_are_loaded(
    manager: PipelineManager, folder: Path
) -> None:
    with manager.borrow(KEY) as loaded:
        files = {path.suffix for path in Path(loaded.pipeline._arguments[1]).rglob("*.*")}
        assert files == {".safetensors", ".json", ".txt"}
        assert loaded.nbytes > 4 * 47e6
        assert loaded.revision.startswith("local@")


def test_cancel_ends_within_a_token_and_the_seed_repeats_in_the_next_request(
    manager: PipelineManager, first: Drawn
) -> None:
    started(manager, 3, order())
    np.testing.assert_array_equal(paint(manager, order())[0], first[0])


def started(manager: PipelineManager, tokens: int, request: GenerationRequest) -> bytes | None:
    """Draw some tokens, then cancel; the last preview until then."""

    class Stopping(RecordingWatcher):
        def is_cancelled(self) -> bool:
            return len(self.steps) > tokens

    watcher = Stopping()
    with pytest.raises(Cancelled):
        paint(manager, request, watcher)
    assert [step for step, _, _ in watcher.steps] == list(range(tokens + 1))
    return watcher.previews[-1] if watcher.previews else None


@pytest.mark.parametrize("change", [{"seed": 1}, {"prompt": "a dog"}])
def test_seed_and_prompt_change_the_picture(
    manager: PipelineManager, first: Drawn, change: dict[str, object]
) -> None:
    preview = started(manager, 32, replace(order(), **change))
    assert preview is not None
    assert preview != first[1].previews[0]


@pytest.mark.parametrize(
    ("number", "error", "said"),
    [
        (signal.SIGSEGV, ModelUnavailable, "ended unexpectedly"),
        (signal.SIGKILL, OutOfMemory, "does not fit into the memory"),
    ],
)
def test_a_crash_is_told_and_the_next_request_works(
    manager: PipelineManager, number: int, error: type[Exception], said: str
) -> None:
    class Crashing(RecordingWatcher):
        def on_step(self, step: int, *others: object) -> None:
            super().on_step(step, *others)
            if step == 3:
                os.kill(child_of(manager), number)

    with pytest.raises(error, match=said):
        paint(manager, order(), Crashing())
    started(manager, 2, order())


def test_an_evicted_model_leaves_no_process_behind(folder: Path, tmp_path: Path) -> None:
    manager = manager_of(folder, tmp_path)
    number = child_of(manager)
    assert is_running(number)
    manager.close()
    assert not is_running(number)


def test_files_that_hold_code_are_refused_and_not_run(folder: Path, tmp_path: Path) -> None:
    bad, trace = tmp_path / "bad", tmp_path / "trace"
    shutil.copytree(folder, bad)

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (trace,)

    torch.save({"weight": Trap()}, bad / "encoder.pt")
    with pytest.raises(ModelUnavailable, match="other things than weights"):
        child_of(manager_of(bad, tmp_path / "kept"))
    assert not trace.exists()
    assert not list((tmp_path / "kept").rglob("model_index.json"))
    with pytest.raises(pickle.UnpicklingError):
        torch.load(bad / "encoder.pt", weights_only=True)


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.mkdir()
    shutil.copy(folder / "encoder.pt", part)
    with pytest.raises(ModelUnavailable, match=r"lacks decoder\.pt, detoker\.pt, vocab\.json"):
        child_of(manager_of(part, tmp_path / "kept"))


def test_damaged_weights_are_told_by_the_first_picture(
    manager: PipelineManager, tmp_path: Path, first: Drawn
) -> None:
    with manager.borrow(KEY) as loaded:
        shutil.copytree(loaded.pipeline._arguments[1], tmp_path / "cut")
    os.truncate(tmp_path / "cut" / "decoder" / "model.safetensors", 1000)
    with pytest.raises(ModelUnavailable):
        paint(manager_of(tmp_path / "cut", tmp_path / "kept"), order())


def test_without_the_extra_it_says_how_to_add_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "min_dalle", None)
    with pytest.raises(ModelUnavailable, match=r"requirements-dalle\.txt"):
        child_of(manager_of(folder, tmp_path))


def test_its_process_reaches_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        code = (
            "import sys, socket, urllib.request\n"
            "from pipelines.families.dalle_worker import close_network\n"
            "address = ('127.0.0.1', int(sys.argv[1]))\n"
            "socket.create_connection(address).close()\n"
            "close_network()\n"
            "for ask in (\n"
            "    lambda: socket.create_connection(address),\n"
            "    lambda: socket.socket().connect_ex(address),\n"
            "    lambda: urllib.request.urlopen('http://127.0.0.1:%d' % address[1]),\n"
            "    lambda: socket.getaddrinfo('huggingface.co', 443),\n"
            "):\n"
            "    try:\n"
            "        ask()\n"
            "    except PermissionError:\n"
            "        print('refused')\n"
        )
        port = str(server.getsockname()[1])
        ran = subprocess.run(
            [sys.executable, "-c", code, port], cwd=ROOT, capture_output=True, text=True
        )
        assert ran.stdout.split() == ["refused"] * 4, ran.stderr
        server.accept()[0].close()  # the one from before
        time.sleep(0.1)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_only_its_own_size_and_no_negative_prompt(folder: Path, tmp_path: Path) -> None:
    _, catalogue = catalogue_of(folder, tmp_path)
    catalogue.check(order())
    for change in ({"width": 512, "height": 512}, {"num_inference_steps": 20}):
        with pytest.raises(InvalidRequest):
            catalogue.check(replace(order(), **change))
    assert not catalogue.get_model(KEY).negative_prompt


FETCH = """
import json, sys
from pathlib import Path
from pipelines.loader import Loader
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.settings import Settings

settings = Settings(device="cpu", data_dir=Path(sys.argv[1]))
row = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings).get_model("dalle-mega")
found = Loader(settings).find(row, lambda text: None)
files = sorted(str(path.relative_to(found.folder)) for path in found.folder.rglob("*.*"))
print(json.dumps({"revision": found.revision, "files": files}))
"""


def test_its_files_come_by_the_houses_own_download_and_nothing_else(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "hub" / "kuprel" / "min-dalle")
    (tmp_path / "hub" / "kuprel" / "min-dalle" / "decoder_mini.pt").write_bytes(b"not wanted")
    server = HubServer(0, tmp_path / "hub", tmp_path / "asked.txt")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found = run(FETCH, tmp_path / "home", server.url, str(tmp_path / "kept"))
    server.shutdown()
    assert found["revision"] == f"kuprel/min-dalle@{COMMIT[:12]}"
    assert found["files"] == [
        "decoder/model.safetensors",
        "detoker/model.safetensors",
        "encoder/model.safetensors",
        "model_index.json",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
    ]
    asked = (tmp_path / "asked.txt").read_text()
    assert "encoder.pt" in asked
    assert "decoder_mini.pt" not in asked
