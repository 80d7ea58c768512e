"""Hub: a checkpoint fetched from a real server that speaks the Hub's protocol."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import COMMIT, OLDER, TOKEN, HubServer
from tiny_house import checkpoint

from lab.serving import free_port

ROOT = Path(__file__).parent.parent
UNET = "unet/diffusion_pytorch_model.safetensors"
BIG_BYTES = 6_000_000
FETCH = """
import json, sys, time
from dataclasses import replace
from pathlib import Path
from pipelines import hub
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.errors import Cancelled, CroquisError
from studio.settings import Settings

changes = json.loads(sys.argv[1])
then = changes.pop("then", "")
hub.SPARE_BYTES = changes.pop("spare_bytes", 0)
settings = Settings(**changes)
row = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings).get_model("sd2")
messages, started = [], time.monotonic()

def on_message(text):
    messages.append(text)
    exec(then)

try:
    sources = tuple(sys.argv[2].split())
    folder, revision = hub.fetch(replace(row, sources=sources, variant=None), settings, on_message)
    files = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.*"))
    print(json.dumps({"files": files, "revision": revision, "messages": messages}))
except CroquisError as exc:
    error = {"error": str(exc), "kind": type(exc).__name__, "messages": messages}
    print(json.dumps(error | {"elapsed_s": time.monotonic() - started}))
"""


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real checkpoints in the shapes that repositories of the Hub have."""
    root = tmp_path_factory.mktemp("hub")
    for name in ("good", "gated", "slow", "huge", "pickle", "lacking"):
        shutil.copytree(checkpoint("mini"), root / "tiny" / name)
    unwanted = ("768-v.ckpt", "768-v.safetensors", "unet/diffusion_pytorch_model.bin")
    unwanted += ("unet/code.py", "unet/model.onnx", "unet/flax_model.msgpack")
    unwanted += ("unet/diffusion_pytorch_model.fp16.safetensors", "vae_1_0/model.safetensors")
    for name in unwanted:
        (root / "tiny/good" / name).parent.mkdir(exist_ok=True)
        (root / "tiny/good" / name).write_bytes(b"not wanted")
    (root / "tiny/slow" / UNET).write_bytes(os.urandom(BIG_BYTES))
    (root / "tiny/pickle" / UNET).rename(root / "tiny/pickle/unet/diffusion_pytorch_model.bin")
    (root / "tiny/lacking" / UNET).unlink()
    notes = {
        "gated": {"gated": True},
        "slow": {"pause_s": 0.04},
        "huge": {"claims": {UNET: 10**16}},
    }
    for name, note in notes.items():
        (root / "tiny" / name / ".hub.json").write_text(json.dumps(note))
    return root


@pytest.fixture(scope="module")
def server(repositories: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    server = HubServer(0, repositories, tmp_path_factory.mktemp("log") / "asked.txt")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def endpoint(server: HubServer) -> str:
    """The server's address; its log is empty."""
    server.log.write_text("")
    return server.url


def fetch(home: Path, endpoint: str, sources: str, **settings: object) -> dict[str, object]:
    """Fetch the sources; the tiny checkpoint stands in for Stable Diffusion 2."""
    return run(FETCH, home, endpoint, json.dumps(settings), sources)


def run(program: str, home: Path, endpoint: str, *arguments: str) -> dict[str, object]:
    """Run in a fresh process, as huggingface_hub reads its environment at import."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env=environment(home, endpoint),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def environment(home: Path, endpoint: str) -> dict[str, str]:
    environ = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0"}
    return {**environ, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


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
    assert "vae_1_0/model.safetensors" not in files
    assert "unet/diffusion_pytorch_model.fp16.safetensors" not in files
    assert any(text.startswith("Downloading Stable Diffusion 2, ") for text in fetched["messages"])


def test_what_is_on_disk_serves_when_the_source_is_gone(tmp_path: Path, endpoint: str) -> None:
    first = fetch(tmp_path, endpoint, "tiny/good")
    offline = fetch(tmp_path, endpoint, "tiny/good", offline=True)
    unreachable = fetch(tmp_path, "http://127.0.0.1:9", "tiny/good")
    for again in (offline, unreachable):
        assert again["files"] == first["files"]
        assert again["revision"] == first["revision"]


def test_a_file_that_went_missing_on_disk_is_fetched_alone(
    tmp_path: Path, endpoint: str, server: HubServer
) -> None:
    assert fetch(tmp_path, endpoint, "tiny/good")["revision"]
    lost = next(tmp_path.rglob(f"snapshots/*/{UNET}"))
    lost.resolve().unlink()
    lost.unlink()
    failed = fetch(tmp_path, endpoint, "tiny/good", offline=True)
    assert "tiny/good: only partly on disk, and no connection" in str(failed["error"])
    server.log.write_text("")
    assert fetch(tmp_path, endpoint, "tiny/good")["revision"]
    asked = [line.split()[1] for line in server.log.read_text().splitlines()]
    assert asked
    assert all(path.endswith(UNET) for path in asked if "/cdn/" in path)


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
    assert "Tried tiny/gone: removed, or private; tiny/gated: gated" in text
    assert "https://huggingface.co/tiny/gated" in text
    assert "CROQUIS_HF_TOKEN" in text


def test_a_gated_repository_opens_to_the_token(tmp_path: Path, endpoint: str) -> None:
    refused = fetch(tmp_path, endpoint, "tiny/gated", hf_token="hf_other")
    assert "is gated: accept its licence at https://huggingface.co/tiny/gated" in str(refused)
    assert "hf_other" not in json.dumps(refused)
    assert fetch(tmp_path, endpoint, "tiny/gated", hf_token=TOKEN)["revision"]


def test_no_connection_is_told_within_seconds(tmp_path: Path) -> None:
    failed = fetch(tmp_path, "http://127.0.0.1:9", "tiny/gone tiny/good")
    assert "tiny/gone: no connection; tiny/good: no connection" in str(failed["error"])
    assert failed["elapsed_s"] < 8


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("pickle", "has “unet” only in pickle files"),
        ("lacking", "lacks the weights of “unet”"),
    ],
)
def test_a_repository_that_cannot_be_loaded_is_not_fetched(
    tmp_path: Path, endpoint: str, server: HubServer, name: str, cause: str
) -> None:
    failed = fetch(tmp_path, endpoint, f"tiny/{name}")
    assert f"tiny/{name}: {cause}" in str(failed["error"])
    assert "safetensors" not in server.log.read_text()


def test_a_disk_with_too_little_room_is_told_before_the_start(
    tmp_path: Path, endpoint: str, server: HubServer
) -> None:
    failed = fetch(tmp_path, endpoint, "tiny/huge tiny/good")
    assert failed["kind"] == "StorageFailed"
    assert "needs 10000000.0 GB more on the disk" in str(failed["error"])
    free = shutil.disk_usage(tmp_path).free / 1e9
    told = float(re.findall(r"but ([\d.]+) GB are free", str(failed["error"]))[0])
    assert told == pytest.approx(free, rel=0.2)
    assert "safetensors" not in server.log.read_text()


def test_room_is_left_for_pictures(tmp_path: Path, endpoint: str) -> None:
    free = shutil.disk_usage(tmp_path).free
    failed = fetch(tmp_path, endpoint, "tiny/good", spare_bytes=free + 10**9)
    assert failed["kind"] == "StorageFailed"
    assert fetch(tmp_path, endpoint, "tiny/good", spare_bytes=free // 2)["revision"]


def test_a_full_disk_in_mid_download_keeps_what_came(tmp_path: Path, endpoint: str) -> None:
    """On a disk of 16 MB of its own, which something else fills meanwhile."""
    mount = [
        "unshare",
        "-rm",
        "sh",
        "-c",
        'mount -t tmpfs -o size=16m none "$HF_HOME" && exec "$@"',
    ]
    if subprocess.run([*mount, "sh", "true"], env=environment(tmp_path, "")).returncode:
        pytest.skip("this machine lends no disk of its own")
    fill = "import os; open(os.environ['HF_HOME'] + '/other', 'ab').write(b'0' * 2**24)"
    then = f"if ' MB of ' in text:\n  try: {fill}\n  except OSError: pass"
    done = subprocess.run(
        [*mount, "sh", sys.executable, "-c", FETCH, json.dumps({"then": then}), "tiny/slow"],
        cwd=ROOT,
        env=environment(tmp_path, endpoint),
        capture_output=True,
        text=True,
        timeout=120,
    )
    failed = json.loads(done.stdout.splitlines()[-1])
    assert failed["kind"] == "StorageFailed", done.stderr
    assert "disk was full" in failed["error"]
    assert "goes on from there" in failed["error"]


def test_a_download_goes_on_where_a_killed_server_left_it(
    tmp_path: Path, repositories: Path
) -> None:
    port, log = free_port(), tmp_path / "asked.txt"
    url, home = f"http://127.0.0.1:{port}", tmp_path / "hub"
    started = serve(port, repositories, log)
    client = subprocess.Popen(
        [sys.executable, "-c", FETCH, "{}", "tiny/slow"],
        cwd=ROOT,
        env=environment(home, url),
        stdout=subprocess.PIPE,
    )
    part = wait_for_part(home, BIG_BYTES // 4)
    started.kill()
    output = client.communicate(timeout=60)[0].decode()
    failed = json.loads(output.splitlines()[-1])
    assert "The connection was lost after" in failed["error"]
    assert "of 6 MB" in failed["error"] or "of 7 MB" in failed["error"]
    kept = part.stat().st_size
    assert BIG_BYTES // 4 <= kept < BIG_BYTES
    log.unlink()
    started = serve(port, repositories, log)
    try:
        again = fetch(home, url, "tiny/slow")
    finally:
        started.kill()
    assert f"GET /tiny/slow/resolve/{COMMIT}/{UNET} bytes={kept}-" in log.read_text()
    whole = next(home.rglob(f"snapshots/*/{UNET}"))
    assert whole.read_bytes() == (repositories / "tiny/slow" / UNET).read_bytes()
    assert list(home.rglob("*.part")) == []
    assert re.search(r"MB of \d MB, \d+ MB/s, \d+ s left", " ".join(again["messages"]))


def test_a_part_that_is_not_of_this_file_is_fetched_anew(
    tmp_path: Path, endpoint: str, repositories: Path
) -> None:
    blobs = tmp_path / "hub/models--tiny--good/blobs"
    blobs.mkdir(parents=True)
    from hub_server import digest

    part = blobs / f"{digest(repositories / 'tiny/good' / UNET)}.part"
    part.write_bytes(b"rubbish")
    assert "came damaged" in str(fetch(tmp_path, endpoint, "tiny/good")["error"])
    assert not part.exists()
    assert fetch(tmp_path, endpoint, "tiny/good")["revision"]


def serve(port: int, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """A server in a process of its own; returns when it answers."""
    program = str(Path(__file__).with_name("hub_server.py"))
    server = subprocess.Popen([sys.executable, program, str(port), str(folder), str(log)])
    import urllib.request

    for _ in range(200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/models/tiny/good").close()
            return server
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server did not answer")


def wait_for_part(home: Path, nbytes: int) -> Path:
    """Wait until so much of the large file is on disk."""
    for _ in range(1200):
        for part in home.rglob("*.part"):
            if part.stat().st_size >= nbytes:
                return part
        time.sleep(0.05)
    raise AssertionError("nothing came")


HOUSE = """
import json, sys, time
from dataclasses import replace
from pathlib import Path
from pipelines import hub
from pipelines.engine import Engine
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.settings import Settings
from studio.studio import Studio

hub.SPARE_BYTES = 0
settings = Settings(data_dir=Path(sys.argv[1]), device="cpu")
catalogue = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings)
row = replace(catalogue.models["sd2"], min_side=64)
for name, sources, variant in json.loads(sys.argv[2]):
    catalogue.models[name] = replace(row, key=name, sources=tuple(sources), variant=variant)
studio = Studio(settings, catalogue)
studio.start()
manager = PipelineManager(catalogue, Loader(settings), 10**9, studio.set_model_state)
engine = Engine(studio, manager, settings)
engine.start()

def submit(name):
    small = {"num_inference_steps": 1, "width": 64, "height": 64}
    return studio.submit(replace(catalogue.default_request(name, "a red chair"), **small), "anna")

def wait(job):
    while studio.job(job.id, "anna").is_active:
        time.sleep(0.02)
    return studio.job(job.id, "anna")

def begin():
    job = submit("slow")
    while not studio.progress(job.id, "anna").message.startswith("Downloading"):
        time.sleep(0.01)
    return job

told = {}
for name, _, _ in json.loads(sys.argv[2]):
    if name != "slow":
        ended = wait(submit(name))
        told[name] = [ended.state.value, ended.error or "", manager.nbytes]
        manager.evict(name)
stopped = begin()
asked_at = time.monotonic()
studio.cancel(stopped.id, "anna")
told["stopped"] = [wait(stopped).state.value, time.monotonic() - asked_at]
told["slow"] = [studio.availability("slow").state, manager.nbytes]
begin()
asked_at = time.monotonic()
engine.close()
told["close_s"] = time.monotonic() - asked_at
print(json.dumps(told))
studio.close()
"""


@pytest.fixture(scope="module")
def told(
    server: HubServer, repositories: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[object]]:
    """What jobs on each kind of repository end with, one after the other, in one real engine."""
    save_sharded(repositories / "tiny/sharded")
    rows = [
        ("gated", ["tiny/gated"], None),
        ("pickle", ["tiny/pickle"], None),
        ("lacking", ["tiny/lacking"], None),
        ("huge", ["tiny/huge"], None),
        ("mirror", ["tiny/gone", "tiny/good"], None),
        ("sharded", ["tiny/sharded"], "fp16"),
        ("slow", ["tiny/slow"], None),
    ]
    folder = tmp_path_factory.mktemp("house")
    return run(HOUSE, folder / "hub", server.url, str(folder / "croquis"), json.dumps(rows))


def save_sharded(folder: Path) -> None:
    """The tiny checkpoint in half precision and in pieces, with the whole files beside them."""
    import torch
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(checkpoint("mini"), dtype=torch.float16)
    pipeline.save_pretrained(folder, variant="fp16", max_shard_size="50KB")
    assert len(list(folder.glob("unet/*-of-*"))) > 2
    shutil.copy(checkpoint("mini") / UNET, folder / UNET)
    (folder / "text_encoder/chat_template.jinja").write_text("{{ words }}")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gated", "is gated: accept its licence at https://huggingface.co/tiny/gated"),
        ("pickle", "only in pickle files"),
        ("lacking", "lacks the weights of “unet”"),
        ("huge", "more on the disk"),
    ],
)
def test_a_job_says_why_its_model_cannot_be_had_and_leaves_nothing_in_memory(
    told: dict[str, list[object]], name: str, says: str
) -> None:
    state, error, nbytes = told[name]
    assert (state, nbytes) == ("failed", 0)
    assert says in str(error)


@pytest.mark.parametrize("name", ["mirror", "sharded"])
def test_the_next_request_draws_from_a_mirror_and_from_shards(
    told: dict[str, list[object]], name: str
) -> None:
    assert told[name][:2] == ["done", ""]


def test_a_job_stops_long_before_a_slow_line_is_done(told: dict[str, list[object]]) -> None:
    state, stop_s = told["stopped"]
    assert state == "cancelled"
    assert float(str(stop_s)) < 4
    assert float(str(told["close_s"])) < 4


def test_what_a_stopped_job_fetched_is_kept_on_disk_alone(told: dict[str, list[object]]) -> None:
    assert told["slow"] == ["download", 0]


def test_shards_of_the_variant_are_fetched_and_no_others(
    told: dict[str, list[object]], server: HubServer, repositories: Path
) -> None:
    asked = {line.split()[1] for line in server.log.read_text().splitlines()}
    fetched = {path.partition(f"cdn/{COMMIT}/")[2] for path in asked if "/sharded/cdn/" in path}
    sharded = repositories / "tiny/sharded"
    real = [str(path.relative_to(sharded)) for path in sharded.rglob("*.safetensors")]
    assert fetched == {name for name in real if "fp16" in name}
