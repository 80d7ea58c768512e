"""The visitor's cookie: who gets one, and what it becomes."""

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from api.visitor import COOKIE, VisitorMiddleware, make_cookie, owner_of_token, read_token


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    app.add_middleware(VisitorMiddleware)

    @app.get("/{path:path}")
    def tell(path: str, request: Request) -> dict[str, str | None]:
        return {"owner": request.scope.get("croquis_owner")}

    return TestClient(app)


def test_page_gives_a_cookie_that_makes_the_owner(client: TestClient) -> None:
    first = client.get("/")
    assert first.json()["owner"] is None
    token = first.cookies[COOKIE]
    assert client.get("/pictures/x.png").json()["owner"] == owner_of_token(token)
    assert client.get("/").headers["set-cookie"].startswith(f"{COOKIE}={token}; ")


def test_only_the_page_sets_the_cookie(client: TestClient) -> None:
    assert "set-cookie" not in client.get("/gradio_api/info").headers


def test_two_browsers_are_two_owners(client: TestClient) -> None:
    first = client.get("/").cookies[COOKIE]
    client.cookies.clear()
    assert owner_of_token(first) != owner_of_token(client.get("/").cookies[COOKIE])


@pytest.mark.parametrize("value", ["", "abc", "Z" * 32, "a" * 33, "../../etc/passwd", "a" * 5000])
def test_foreign_value_is_no_token(client: TestClient, value: str) -> None:
    assert read_token(f"{COOKIE}={value}") is None
    answer = client.get("/", headers={"cookie": f"{COOKIE}={value}"})
    assert answer.json()["owner"] is None
    assert COOKIE in answer.headers["set-cookie"]


def test_cookie_is_out_of_reach_of_scripts() -> None:
    cookie = make_cookie("a" * 32, secure=False)
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Secure" not in cookie


def test_https_cookie_works_in_a_frame(client: TestClient) -> None:
    cookie = client.get("/", headers={"x-forwarded-proto": "https"}).headers["set-cookie"]
    assert "SameSite=None; Secure; Partitioned" in cookie


def test_token_is_not_the_owner() -> None:
    assert owner_of_token("a" * 32) != "a" * 32
    assert len(owner_of_token("a" * 32)) == 32


@pytest.mark.parametrize(
    "other", ['prefs={"a": 1}', "foo[bar]=1", "x=hello world", "x=\u00e9", "flag", "=", ";;"]
)
def test_odd_cookies_of_other_programs_do_not_hide_ours(other: str) -> None:
    assert read_token(f"{other}; {COOKIE}={'a' * 32}; {other}") == "a" * 32
