"""GET /pictures/...: a visitor's own pictures, byte for byte as they were kept."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response
from studio.attachments import MEDIA_TYPES
from studio.errors import NotFound
from studio.pictures import Picture
from studio.studio import Studio

MAX_NAME_BYTES = 120
"""Of the words in a file's name: with seed and ending it stays below 143, which even the
encrypted file systems take."""

KEEP = {"Cache-Control": "private, max-age=31536000, immutable", "Vary": "Cookie"}


def build_picture_routes(studio: Studio) -> APIRouter:
    """Build the routes. Another visitor's picture answers 404, as one that never was."""
    routes = APIRouter()

    @routes.get("/pictures/{picture_id}.png")
    def get_picture(picture_id: str, request: Request, download: bool = False) -> Response:
        picture = _find(studio, picture_id, request)
        if picture is None:
            return missing()
        name = file_name(picture) if download else None
        return FileResponse(picture.path, media_type="image/png", filename=name, headers=KEEP)

    @routes.get("/pictures/{picture_id}.webp")
    def get_thumbnail(picture_id: str, request: Request) -> Response:
        picture = _find(studio, picture_id, request)
        if picture is None:
            return missing()
        return FileResponse(picture.thumbnail_path, media_type="image/webp", headers=KEEP)

    for suffix, media_type in MEDIA_TYPES.items():
        routes.get(f"/pictures/{{picture_id}}{suffix}")(_attachment(studio, suffix, media_type))
    return routes


def _attachment(
    studio: Studio, suffix: str, media_type: str
) -> Callable[[str, Request, bool], Response]:
    """The function that answers for one kind of attachment."""

    def get_attachment(picture_id: str, request: Request, download: bool = False) -> Response:
        picture = _find(studio, picture_id, request)
        path = picture.attachment(suffix) if picture else None
        if picture is None or path is None:
            return missing()
        name = file_name(picture, suffix) if download else None
        return FileResponse(path, media_type=media_type, filename=name, headers=KEEP)

    return get_attachment


def file_name(picture: Picture, suffix: str = ".png") -> str:
    """A name that a visitor finds again: the first words of the prompt and the seed.

    Letters, digits and emoji of all languages stay; separators of paths, control characters and
    whatever else is in a prompt become hyphens.
    """
    request = picture.recipe.request
    larger = f"-x{picture.recipe.enlarged}" if picture.recipe.enlarged > 1 else ""
    return f"{_slug(request.prompt) or 'croquis'}-{request.seed}{larger}{suffix}"


def _slug(prompt: str) -> str:
    """The first words joined by hyphens, in at most MAX_NAME_BYTES of UTF-8."""
    shown = [char if _is_kept(char) else " " for char in _plain(prompt).lower()]
    joined = "-".join("".join(shown).split()[:8])
    cut = joined.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    return cut.strip("-")


def _plain(prompt: str) -> str:
    """Latin letters without their marks, as "e" for "é"; other scripts need theirs."""
    decomposed = unicodedata.normalize("NFKD", prompt)
    bare = re.sub(r"(?<=[a-zA-Z])[\u0300-\u036f]+", "", decomposed)
    return unicodedata.normalize("NFKC", bare)


def _is_kept(char: str) -> bool:
    """Letters, marks and digits (L, M, N), pictographs (So) and their skin tones (Sk)."""
    kind = unicodedata.category(char)
    return kind[0] in "LMN" or kind == "So" or "\U0001f3fb" <= char <= "\U0001f3ff"


def _find(studio: Studio, picture_id: str, request: Request) -> Picture | None:
    """The picture if it is this visitor's and its files are there."""
    owner = request.scope.get("croquis_owner")
    if owner is None:
        return None
    try:
        picture = studio.picture(picture_id, owner)
    except NotFound:
        return None
    return picture if picture.path.is_file() and picture.thumbnail_path.is_file() else None


def missing() -> Response:
    """The answer for what is not here, and for what is another visitor's."""
    return PlainTextResponse("There is no such picture.", status_code=404)
