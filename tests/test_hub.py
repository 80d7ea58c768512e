"""Hub: a checkpoint fetched from a real server that speaks the Hub's protocol."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tiny_house import checkpoint

ROOT = Path(__file__).parent.parent
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLDER = "fedcba9876543210fedcba9876543210fedcba98"
FETCH = """
import json, sys, time
from dataclasses import replace
from pathlib import Path
from pipelines.hub import fetch
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.errors import CroquisError
from studio.settings import Settings

settings = Settings(**json.loads(sys.argv[1]))
row = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings).get_model("sd2")
messages, started = [], time.monotonic()
try:
    sources = tuple(sys.argv[2].split())
    folder, revision = fetch(replace(row, sources=sources, variant=None), settings, messages.append)
    files = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.*"))
    print(json.dumps({"files": files, "revision": revision, "messages": messages}))
except CroquisError as exc:
    print(json.dumps({"error": str(exc), "elapsed_s": time.monotonic() - started}))
"""

STOP = """
import json, sys, time
from dataclasses import replace
from pathlib import Path
from pipelines.engine import Engine
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.settings import Settings
from studio.studio import Studio

settings = Settings(data_dir=Path(sys.argv[1]), device="cpu")
catalogue = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings)
catalogue.models["sd2"] = replace(catalogue.models["sd2"], sources=("tiny/slow",), variant=None)
studio = Studio(settings, catalogue)
studio.start()
manager = PipelineManager(catalogue, Loader(settings), 10**9, studio.set_model_state)
engine = Engine(studio, manager, settings)
engine.start()

def begin():
    job = studio.submit(catalogue.default_request("sd2", "a red chair"), "anna")
    while not studio.progress(job.id, "anna").message.startswith("Downloading"):
        time.sleep(0.01)
    return job

job = begin()
asked_at = time.monotonic()
studio.cancel(job.id, "anna")
while studio.job(job.id, "anna").is_active:
    time.sleep(0.01)
stop_s = time.monotonic() - asked_at
states = studio.job(job.id, "anna").state.value, studio.availability("sd2").state
begin()
asked_at = time.monotonic()
engine.close()
print(json.dumps({"states": states, "stop_s": stop_s, "close_s": time.monotonic() - asked_at}))
studio.close()
"""


class HubHandler(BaseHTTPRequestHandler):
    """The repository tiny/good is the tiny checkpoint, tiny/gated is gated, the rest is gone.

    tiny/good has two commits with the same files. tiny/slow is tiny/good on a slow line, where
    each file of weights takes three seconds.
    """

    pause_s = 0.0

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def _answer(self, with_body: bool) -> None:
        path = self.path.partition("?")[0].removeprefix("/")
        if "tiny/gated" in path:
            return self._send(403, b"{}", {"X-Error-Code": "GatedRepo"}, with_body)
        if not re.search("tiny/(good|slow)", path):
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body)
        commit = next((word for word in path.split("/") if len(word) == len(COMMIT)), COMMIT)
        if commit not in (COMMIT, OLDER):
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, with_body)
        if not path.startswith("api/"):
            name = path.partition(f"resolve/{commit}/")[2]
            body = (checkpoint("mini") / name).read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()}"'
            self.pause_s = 0.1 if "tiny/slow" in path and name.endswith(".safetensors") else 0.0
            return self._send(200, body, {"ETag": etag, "X-Repo-Commit": commit}, with_body)
        names = [{"rfilename": file["path"]} for file in _tree()]
        about = {"id": "tiny/good", "sha": commit, "siblings": names}
        answer = _tree() if "/tree/" in path else about
        return self._send(200, json.dumps(answer).encode(), {}, with_body)

    def _send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not with_body:
            return
        piece = len(body) // 100 + 1 if self.pause_s else len(body) + 1
        for start in range(0, len(body), piece):
            time.sleep(self.pause_s)
            self.wfile.write(body[start : start + piece])


def _tree() -> list[dict[str, object]]:
    """The checkpoint's files, and some that must not be fetched."""
    folder = checkpoint("mini")
    real = [path for path in folder.rglob("*") if path.is_file()]
    names = {str(path.relative_to(folder)): path.stat().st_size for path in real}
    unwanted = ("768-v.ckpt", "768-v.safetensors", "unet/diffusion_pytorch_model.bin")
    half = "unet/diffusion_pytorch_model.fp16.safetensors"
    names |= dict.fromkeys((*unwanted, half, "unet/code.py"), 5_000_000)
    return [
        {"type": "file", "path": name, "size": size, "oid": f"{index:040x}"}
        for index, (name, size) in enumerate(names.items())
    ]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def fetch(home: Path, endpoint: str, sources: str, **settings: object) -> dict[str, object]:
    """Fetch the sources; the tiny checkpoint stands in for Stable Diffusion 2."""
    return run(FETCH, home, endpoint, json.dumps(settings), sources)


def run(program: str, home: Path, endpoint: str, *arguments: str) -> dict[str, object]:
    """Run in a fresh process, as huggingface_hub reads its environment at import."""
    environ = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={**environ, "HF_HUB_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_first_source_that_answers_is_fetched_without_pickles_and_code(
    tmp_path: Path, endpoint: str
) -> None:
    fetched = fetch(tmp_path, endpoint, "tiny/gone tiny/gated tiny/good")
    assert fetched["revision"] == "tiny/good@0123456789ab"
    files = fetched["files"]
    assert "model_index.json" in files
    assert "unet/diffusion_pytorch_model.safetensors" in files
    assert {Path(name).suffix for name in files} <= {".json", ".txt", ".safetensors"}
    assert "768-v.safetensors" not in files
    assert "unet/diffusion_pytorch_model.fp16.safetensors" not in files
    assert any(text.startswith("Downloading Stable Diffusion 2, ") for text in fetched["messages"])


def test_what_is_on_disk_serves_when_the_source_is_gone(tmp_path: Path, endpoint: str) -> None:
    first = fetch(tmp_path, endpoint, "tiny/good")
    offline = fetch(tmp_path, endpoint, "tiny/good", offline=True)
    unreachable = fetch(tmp_path, "http://127.0.0.1:9", "tiny/good")
    for again in (offline, unreachable):
        assert again["files"] == first["files"]
        assert again["revision"] == first["revision"]


def test_every_source_is_pinned_to_its_own_commit(tmp_path: Path, endpoint: str) -> None:
    gone = "f" * 40
    fetched = fetch(tmp_path, endpoint, f"tiny/gone@{gone} tiny/good@{gone} tiny/good@{OLDER}")
    assert fetched["revision"] == f"tiny/good@{OLDER[:12]}"
    offline = fetch(tmp_path, endpoint, f"tiny/good@{OLDER}", offline=True)
    assert offline["revision"] == fetched["revision"]
    newest = fetch(tmp_path, endpoint, "tiny/good")
    assert newest["revision"] == f"tiny/good@{COMMIT[:12]}"
    failed = fetch(tmp_path, endpoint, f"tiny/good@{gone}")
    assert f"Tried tiny/good@{gone}: this revision was removed." in str(failed["error"])


def test_each_source_is_named_with_its_cause(tmp_path: Path, endpoint: str) -> None:
    text = str(fetch(tmp_path, endpoint, "tiny/gone tiny/gated")["error"])
    assert "Tried tiny/gone: removed, or private; tiny/gated: gated." in text
    assert "CROQUIS_HF_TOKEN" in text


def test_no_connection_is_told_within_seconds(tmp_path: Path) -> None:
    failed = fetch(tmp_path, "http://127.0.0.1:9", "tiny/gone tiny/good")
    assert "tiny/gone: no connection; tiny/good: no connection" in str(failed["error"])
    assert failed["elapsed_s"] < 8


def test_a_job_stops_long_before_a_slow_line_is_done(tmp_path: Path, endpoint: str) -> None:
    stopped = run(STOP, tmp_path / "hub", endpoint, str(tmp_path / "croquis"))
    assert stopped["states"] == ["cancelled", "download"]
    assert float(str(stopped["stop_s"])) < 4
    assert float(str(stopped["close_s"])) < 4
