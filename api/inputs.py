"""GET /inputs/...: the pictures that a visitor brought, for that visitor alone."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from studio.inputs import PREFIX
from studio.studio import Studio

from api.pictures import KEEP, missing


def build_input_routes(studio: Studio) -> APIRouter:
    """Build the route. Another visitor's picture answers 404, as one that never was."""
    routes = APIRouter()

    @routes.get("/inputs/{digest}.png")
    def get_input(digest: str, request: Request) -> Response:
        owner = request.scope.get("croquis_owner")
        path = studio.input_path(PREFIX + digest, owner) if owner else None
        if path is None:
            return missing()
        return FileResponse(path, media_type="image/png", headers=KEEP)

    return routes
