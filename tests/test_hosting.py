"""Drawing at a provider: the real client against a server that speaks the Hub's inference API."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import close_session
from PIL import Image
from small_studio import ANNA, make_catalogue, open_studio, wait_for_end
from tiny_house import RecordingWatcher

from pipelines.drawing import draw
from pipelines.engine import Engine
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from studio.catalogue import Catalogue
from studio.errors import Cancelled, ModelUnavailable
from studio.hosting import SUFFIX
from studio.jobs import JobState
from studio.request import GenerationRequest
from studio.settings import Settings

KEY = "sdxl" + SUFFIX


@dataclass
class Endpoint:
    """What the server answers, and what it was asked."""

    url: str
    status: int = 200
    wait_s: float = 0.0
    asked: list[dict[str, object]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The other tests keep the Hub's client offline; this server is on this machine."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    close_session()
    yield
    monkeypatch.undo()
    close_session()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.asked.append(body)
            served.tokens.append(self.headers.get("Authorization"))
            time.sleep(served.wait_s)
            content, kind = scribble(body["parameters"]["seed"]), "image/png"
            if served.status != 200:
                content, kind = b'{"error": "the card has run dry"}', "application/json"
            self.send_response(served.status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    served = Endpoint(f"http://127.0.0.1:{server.server_port}/models/sdxl")
    yield served
    server.shutdown()
    server.server_close()


def scribble(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def house(endpoint: Endpoint) -> tuple[Settings, Catalogue]:
    settings = Settings(device="cpu", provider=endpoint.url, hf_token="hf_secret")
    return settings, make_catalogue(settings)


def order(catalogue: Catalogue, **changes: object) -> GenerationRequest:
    request = replace(catalogue.default_request(KEY, "a lighthouse"), seed=7)
    return replace(request, **changes)  # type: ignore[arg-type]


def drawn(
    endpoint: Endpoint, request: GenerationRequest, watcher: RecordingWatcher
) -> list[np.ndarray]:
    settings, catalogue = house(endpoint)
    manager = PipelineManager(catalogue, Loader(settings), 10**9)
    scheduler = catalogue.get_scheduler(request.scheduler)
    with manager.borrow(request.model) as loaded:
        return [np.asarray(one.image) for one in draw(loaded, scheduler, request, [0, 1], watcher)]


def test_rows_are_there_only_with_a_provider(endpoint: Endpoint) -> None:
    assert not [key for key in make_catalogue().models if key.endswith(SUFFIX)]
    _, catalogue = house(endpoint)
    spec = catalogue.get_model(KEY)
    assert (spec.download_gb, spec.memory_gb, spec.schedulers) == (0.0, 0.0, ("own",))
    assert catalogue.availability(KEY).state == "ready"
    catalogue.check(order(catalogue))


def test_the_provider_is_asked_for_each_seed_in_its_own_words(endpoint: Endpoint) -> None:
    _, catalogue = house(endpoint)
    request = order(catalogue, negative_prompt="rain", num_images=2, guidance_scale=6.0)
    first, second = drawn(endpoint, request, RecordingWatcher())
    assert np.array_equal(first, np.asarray(Image.open(io.BytesIO(scribble(7)))))
    assert np.array_equal(second, np.asarray(Image.open(io.BytesIO(scribble(8)))))
    assert endpoint.asked[0] == {
        "inputs": "a lighthouse",
        "parameters": {
            "negative_prompt": "rain",
            "width": request.width,
            "height": request.height,
            "num_inference_steps": request.num_inference_steps,
            "guidance_scale": 6.0,
            "seed": 7,
        },
    }
    assert endpoint.tokens == ["Bearer hf_secret"] * 2


@pytest.mark.parametrize(
    ("status", "told"),
    [(401, "CROQUIS_HF_TOKEN"), (402, "credit"), (404, "not offer"), (500, "it failed")],
)
def test_a_refusal_says_why_and_what_next(endpoint: Endpoint, status: int, told: str) -> None:
    endpoint.status = status
    _, catalogue = house(endpoint)
    with pytest.raises(ModelUnavailable, match=told) as caught:
        drawn(endpoint, order(catalogue), RecordingWatcher())
    assert "the card has run dry" in str(caught.value)
    assert "hf_secret" not in str(caught.value)


def test_a_provider_that_is_not_there_is_told(endpoint: Endpoint) -> None:
    _, catalogue = house(endpoint)
    gone = replace(endpoint, url="http://127.0.0.1:9/models/sdxl")
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        drawn(gone, order(catalogue), RecordingWatcher())


def test_stop_is_heard_while_the_provider_draws(endpoint: Endpoint) -> None:
    endpoint.wait_s = 5.0
    _, catalogue = house(endpoint)
    watcher, started = RecordingWatcher(cancel_at=1), time.monotonic()
    with pytest.raises(Cancelled):
        drawn(endpoint, order(catalogue), watcher)
    assert time.monotonic() - started < 4.0
    assert "SDXL draws at the provider" in watcher.messages[0]


def test_a_job_is_drawn_kept_and_named_after_its_model(tmp_path: Path, endpoint: Endpoint) -> None:
    settings, catalogue = house(endpoint)
    with open_studio(tmp_path, provider=endpoint.url, device="cpu") as studio:
        engine = Engine(studio, PipelineManager(catalogue, Loader(settings), 10**9), settings)
        engine.start()
        job = wait_for_end(studio, studio.submit(order(catalogue), ANNA))
        engine.close()
        assert job.state is JobState.DONE
        picture = studio.picture(job.picture_ids[0], ANNA)
        assert picture.recipe.revision.endswith("@hosted")
        assert picture.recipe.request.model == KEY
