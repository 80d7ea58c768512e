"""POST /count: what the page asks while a prompt is typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.counting import build_counting_routes
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.settings import Settings
from studio.studio import Studio


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    settings = Settings(data_dir=tmp_path)
    app = FastAPI()
    catalogue = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings)
    app.include_router(build_counting_routes(Studio(settings, catalogue)))
    return TestClient(app)


def question(**changes: str) -> dict[str, str]:
    return {"prompt": "a (red:1.2) fox", "model": "builtin", "prompt_syntax": "a1111"} | changes


def test_a_prompt_is_counted(client: TestClient) -> None:
    answer = client.post("/count", json=question())
    assert answer.json() == {"tokens": 3, "room": 30, "is_cut": False}


@pytest.mark.parametrize("model", ["nothing", "flux1-dev", ""])
def test_a_model_that_is_not_here_is_no_error(client: TestClient, model: str) -> None:
    answer = client.post("/count", json=question(model=model))
    assert (answer.status_code, answer.json()) == (200, None)


@pytest.mark.parametrize("changes", [{"prompt": "x" * 10_001}, {"prompt_syntax": "x" * 21}])
def test_too_much_is_refused(client: TestClient, changes: dict[str, str]) -> None:
    assert client.post("/count", json=question(**changes)).status_code == 422
