"""Programs that call the server: /generate, and requests made by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from gradio_client import Client
from gradio_client.exceptions import AppError
from httpx import Response

from api.server import build_server
from tests.browser import Site, serve
from tests.small_studio import open_studio

WRONG = (None, "x", [1], {}, 10**30, "999999")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serve(tmp_path_factory.mktemp("data")) as site:
        site.engine.step_s = 0.0
        yield site


@pytest.fixture(scope="module")
def client(site: Site) -> Client:
    return Client(site.url, verbose=False)


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A visitor who writes requests to the page's private events."""
    with open_studio(tmp_path_factory.mktemp("data")) as studio:
        with TestClient(build_server(studio)) as client:
            client.get("/")
            yield client


def test_gradio_client_gets_files_and_the_seed(client: Client) -> None:
    files, seed = client.predict(prompt="a cat", seed=11, num_images=2, api_name="/generate")
    assert seed == 11
    assert len(files) == 2
    assert Path(files[0]["path"] if isinstance(files[0], dict) else files[0]).is_file()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model": "nope"}, "There is no model 'nope'"),
        ({"scheduler": "nope"}, "There is no scheduler 'nope'"),
        ({"num_inference_steps": 0}, "between 1 and 200, got 0"),
        ({"width": 500}, "multiple of 8"),
        ({"tiling": "z"}, "Seamless must be one of none, x, y, both"),
        ({"seed": 2**32}, "Seed must be"),
        ({"prompt": ""}, "The prompt is empty"),
        ({"prompt": None}, "The prompt is empty"),
    ],
)
def test_wrong_values_by_api_are_refused_in_words(
    client: Client, wrong: dict[str, object], said: str
) -> None:
    with pytest.raises(AppError, match=re.escape(said)):
        client.predict(**({"prompt": "a cat"} | wrong), api_name="/generate")


def test_only_generate_is_public(client: Client) -> None:
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/generate"]


def test_wrong_types_by_hand_are_answered_in_words(by_hand: TestClient) -> None:
    config = by_hand.get("/config").json()
    values = {one["id"]: one["props"].get("value") for one in config["components"]}
    for event in config["dependencies"]:
        if not event["backend_fn"] or event["queue"]:
            continue
        usual = [values[part] for part in event["inputs"]]
        for wrong in WRONG:
            answer = send(by_hand, event, usual, {"value": wrong})
            assert answer.status_code == 200, (event["targets"], wrong)
            assert "Traceback" not in answer.text
            answer = send(by_hand, event, [wrong] * len(usual), {"value": wrong})
            assert not re.search(r"Traceback|/site-packages|sqlite|line \d", answer.text)


def test_path_on_the_server_is_no_upload(by_hand: TestClient, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_text("not for visitors")
    config = by_hand.get("/config").json()
    parts = {one["id"]: one for one in config["components"]}
    upload = next(
        one for one in config["dependencies"] if any(way == "upload" for _, way in one["targets"])
    )
    values = [parts[part]["props"].get("value") for part in upload["inputs"]]
    [place] = [n for n, part in enumerate(upload["inputs"]) if parts[part]["type"] == "file"]
    values[place] = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    answer = send(by_hand, upload, values, None)
    assert answer.status_code == 500
    assert answer.json() == {"error": None}
    assert secret.is_file()


def send(
    client: TestClient, event: dict[str, object], values: list[object], data: object
) -> Response:
    body = {"fn_index": event["id"], "data": values, "session_hash": "byhand", "event_data": data}
    return client.post("/gradio_api/run/predict", json=body)
