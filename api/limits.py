"""How large a request may be: a prompt is short, a dropped picture has the upload route."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 2**20
UPLOAD_PATH = "/gradio_api/upload"


class BodyTooLarge(Exception):
    """More bytes came than the request may have."""


class BodyLimitMiddleware:
    """Answer 413 to a body above 1 MiB on every route but Gradio's upload, which has its own.

    The bytes are counted as they come: a chunked request announces no length.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == UPLOAD_PATH:
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdigit() or int(announced) > MAX_BODY_BYTES:
            await _refuse(scope, receive, send)
            return
        try:
            await self._app(scope, _counted(receive), send)
        except BodyTooLarge:
            await _refuse(scope, receive, send)


def _counted(receive: Receive) -> Receive:
    received = 0

    async def receive_counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            raise BodyTooLarge
        return message

    return receive_counted


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    text = f"The request is larger than {MAX_BODY_BYTES // 2**20} MiB, the most that is taken."
    await JSONResponse({"error": text, "detail": text}, status_code=413)(scope, receive, send)
