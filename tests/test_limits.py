"""A request that is too large is refused before anybody reads it."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from api.limits import MAX_BODY_BYTES, UPLOAD_PATH, BodyLimitMiddleware


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    app.add_middleware(BodyLimitMiddleware)

    @app.post("/{path:path}")
    async def count(path: str, request: Request) -> int:
        return len(await request.body())

    return TestClient(app)


def test_largest_body_passes(client: TestClient) -> None:
    assert client.post("/x", content=b"a" * MAX_BODY_BYTES).json() == MAX_BODY_BYTES


def test_announced_body_that_is_too_large_is_refused(client: TestClient) -> None:
    answer = client.post("/x", content=b"a" * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
    assert "larger than 1 MiB" in answer.json()["error"]


def test_body_that_announces_no_length_is_counted(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b"a" * 100_000

    assert client.post("/x", content=chunks()).status_code == 413


def test_uploads_have_a_limit_of_their_own(client: TestClient) -> None:
    size = 2 * MAX_BODY_BYTES
    assert client.post(UPLOAD_PATH, content=b"a" * size).json() == size
