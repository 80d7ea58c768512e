"""GET /pictures/...: a visitor's own pictures, byte for byte as they were kept."""

from __future__ import annotations

import re
import unicodedata

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response
from studio.errors import NotFound
from studio.pictures import Picture
from studio.studio import Studio

_KEEP = {"Cache-Control": "private, max-age=31536000, immutable", "Vary": "Cookie"}


def build_picture_routes(studio: Studio) -> APIRouter:
    """Build the two routes. Another visitor's picture answers 404, as one that never was."""
    routes = APIRouter()

    @routes.get("/pictures/{picture_id}.png")
    def get_picture(picture_id: str, request: Request, download: bool = False) -> Response:
        picture = _find(studio, picture_id, request)
        if picture is None:
            return _missing()
        name = file_name(picture) if download else None
        return FileResponse(picture.path, media_type="image/png", filename=name, headers=_KEEP)

    @routes.get("/pictures/{picture_id}.webp")
    def get_thumbnail(picture_id: str, request: Request) -> Response:
        picture = _find(studio, picture_id, request)
        if picture is None:
            return _missing()
        return FileResponse(picture.thumbnail_path, media_type="image/webp", headers=_KEEP)

    return routes


def file_name(picture: Picture) -> str:
    """A name that a visitor finds again: the first words of the prompt and the seed."""
    request = picture.recipe.request
    ascii_prompt = unicodedata.normalize("NFKD", request.prompt).encode("ascii", "ignore").decode()
    spoken = re.findall(r"[a-z0-9]+", ascii_prompt.lower())[:8]
    slug = "-".join(spoken)[:60].strip("-")
    larger = f"-x{picture.recipe.enlarged}" if picture.recipe.enlarged > 1 else ""
    return f"{slug or 'croquis'}-{request.seed}{larger}.png"


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


def _missing() -> Response:
    return PlainTextResponse("There is no such picture.", status_code=404)
