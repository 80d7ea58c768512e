"""The picture routes: one's own file byte for byte, everybody else's 404."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from api.inputs import build_input_routes
from api.pictures import build_picture_routes, file_name
from api.visitor import COOKIE, VisitorMiddleware, owner_of_token
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.inputs import PREFIX
from studio.pictures import Picture
from studio.settings import Settings
from studio.studio import Studio

MINE, THEIRS = "1" * 32, "2" * 32


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    settings = Settings(data_dir=tmp_path)
    studio = Studio(settings, Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings))
    studio.start()
    yield studio
    studio.close()


@pytest.fixture
def client(studio: Studio) -> TestClient:
    app = FastAPI()
    app.add_middleware(VisitorMiddleware)
    app.include_router(build_picture_routes(studio))
    return TestClient(app, cookies={COOKIE: MINE})


def draw(studio: Studio, token: str, prompt: str = "a red house") -> Picture:
    owner = owner_of_token(token)
    request = studio.default_request("builtin", prompt).with_seed(7)
    job = studio.submit(request, owner)
    assert studio.take(5) is not None
    studio.keep(job.id, 0, Image.new("RGB", (256, 256), "teal"), "test@1", {})
    studio.finish(job.id)
    while studio.progress(job.id, owner).state.is_active:
        pass
    return studio.pictures(owner)[0]


def test_own_picture_is_the_file_itself(studio: Studio, client: TestClient) -> None:
    picture = draw(studio, MINE)
    answer = client.get(f"/pictures/{picture.id}.png")
    assert answer.status_code == 200
    assert answer.content == picture.path.read_bytes()
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert "content-disposition" not in answer.headers
    assert client.get(f"/pictures/{picture.id}.webp").headers["content-type"] == "image/webp"


def test_download_has_a_name_that_is_found_again(studio: Studio, client: TestClient) -> None:
    picture = draw(studio, MINE, 'A "red" house,\nwith é doors/../')
    answer = client.get(f"/pictures/{picture.id}.png?download=1")
    assert answer.headers["content-disposition"] == (
        'attachment; filename="a-red-house-with-e-doors-7.png"'
    )


def test_enlarged_picture_has_a_name_of_its_own(studio: Studio) -> None:
    picture = draw(studio, MINE)
    enlarged = replace(picture, recipe=replace(picture.recipe, enlarged=16))
    assert file_name(picture) == "a-red-house-7.png"
    assert file_name(enlarged) == "a-red-house-7-x16.png"


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("赤い家 🏠、ドアは青", "赤い家-🏠-ドアは青-7.png"),
        ("Красный дом, ёлка и йод", "красный-дом-ёлка-и-йод-7.png"),
        ("हिन्दी में घर", "हिन्दी-में-घर-7.png"),
        ("بيت أحمر", "بيت-أحمر-7.png"),
        ("house\u202egnp.exe\u2028／x\x07＼y", "house-gnp-exe-x-y-7.png"),
        ("../../家/..\\門:*?", "家-門-7.png"),
        ("?!… \u200b", "croquis-7.png"),
    ],
)
def test_prompt_of_any_script_names_the_download(
    studio: Studio, client: TestClient, prompt: str, name: str
) -> None:
    assert downloaded_name(client, draw(studio, MINE, prompt)) == name


def test_long_prompt_is_cut_between_characters(studio: Studio, client: TestClient) -> None:
    name = downloaded_name(client, draw(studio, MINE, "x" + "家" * 5000))
    assert name == f"x{'家' * 39}-7.png"


def downloaded_name(client: TestClient, picture: Picture) -> str:
    """The name that a browser gives the file, read from the answer's header."""
    disposition = client.get(f"/pictures/{picture.id}.png?download=1").headers[
        "content-disposition"
    ]
    plain, coded = (
        re.fullmatch(pattern, disposition)
        for pattern in (r'attachment; filename="([^"]+)"', r"attachment; filename\*=utf-8''(\S+)")
    )
    return unquote(coded[1], errors="strict") if coded else str(plain and plain[1])


@pytest.mark.parametrize("ending", ["png", "webp", "png?download=1"])
def test_picture_of_another_visitor_is_404(studio: Studio, client: TestClient, ending: str) -> None:
    theirs = draw(studio, THEIRS)
    answer = client.get(f"/pictures/{theirs.id}.{ending}")
    assert answer.status_code == 404
    assert answer.text == client.get(f"/pictures/{'0' * 32}.png").text


def test_without_a_cookie_every_picture_is_404(studio: Studio, client: TestClient) -> None:
    picture = draw(studio, MINE)
    client.cookies.clear()
    assert client.get(f"/pictures/{picture.id}.png").status_code == 404


def test_deleted_picture_is_404_until_restored(studio: Studio, client: TestClient) -> None:
    picture = draw(studio, MINE)
    studio.delete_picture(picture.id, picture.owner)
    assert client.get(f"/pictures/{picture.id}.png").status_code == 404
    studio.restore_picture(picture.id, picture.owner)
    assert client.get(f"/pictures/{picture.id}.png").status_code == 200


@pytest.mark.parametrize("name", ["..%2f..%2fetc%2fpasswd.png", "x.png", "%00.png", "' OR 1=1.png"])
def test_odd_names_are_404(client: TestClient, name: str) -> None:
    assert client.get(f"/pictures/{name}").status_code == 404


def test_a_brought_picture_is_served_to_its_visitor_alone(studio: Studio) -> None:
    app = FastAPI()
    app.add_middleware(VisitorMiddleware)
    app.include_router(build_input_routes(studio))
    kept = studio.keep_input(Image.new("RGB", (8, 6), "teal"), owner_of_token(MINE))
    path = f"/inputs/{kept.removeprefix(PREFIX)}.png"
    mine = TestClient(app, cookies={COOKIE: MINE})
    assert mine.get(path).headers["content-type"] == "image/png"
    assert TestClient(app, cookies={COOKIE: THEIRS}).get(path).status_code == 404
    assert TestClient(app).get(path).status_code == 404
    assert mine.get("/inputs/..%2F..%2Fcroquis.db.png").status_code == 404
