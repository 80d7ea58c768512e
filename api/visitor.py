"""A browser's identity: one random cookie, and the owner of jobs and pictures made from it."""

from __future__ import annotations

import hashlib
import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "croquis_visitor"
_TOKEN = re.compile(r"[0-9a-f]{32}")
_YEAR_S = 365 * 24 * 3600


class VisitorMiddleware:
    """Put `croquis_owner` into the scope of every request that brings the cookie.

    A page that is asked for without one gets a new cookie with its answer, and with one the same
    again for another year. Only the page sets it, so that the many requests of one first visit
    cannot set different ones.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        token = read_token(headers.get("cookie", ""))
        if token is not None:
            scope["croquis_owner"] = owner_of_token(token)
        if scope["type"] == "http" and scope["path"] == "/":
            token = token or secrets.token_hex(16)
            send = _with_cookie(send, make_cookie(token, secure=_is_https(scope, headers)))
        await self._app(scope, receive, send)


def read_token(cookies: str) -> str | None:
    """The token in a Cookie header, or None; whatever else other programs have put there."""
    token = cookie_parser(cookies).get(COOKIE, "")
    return token if _TOKEN.fullmatch(token) else None


def owner_of_token(token: str) -> str:
    """The name under which a visitor's jobs and pictures are kept; the token is not stored."""
    return hashlib.sha256(token.encode()).hexdigest()[:32]


def make_cookie(token: str, *, secure: bool) -> str:
    """A Set-Cookie value that carries a 128-bit token.

    Over https the page may stand in another site's frame, as on a Hugging Face Space; there a
    cookie is kept only when it is `SameSite=None; Secure; Partitioned`.
    """
    place = "SameSite=None; Secure; Partitioned" if secure else "SameSite=Lax"
    return f"{COOKIE}={token}; Path=/; Max-Age={_YEAR_S}; HttpOnly; {place}"


def _is_https(scope: Scope, headers: Headers) -> bool:
    proxied = headers.get("x-forwarded-proto", "").split(",")[0].strip()
    return (proxied or scope.get("scheme", "http")) == "https"


def _with_cookie(send: Send, cookie: str) -> Send:
    async def send_with_cookie(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).append("set-cookie", cookie)
        await send(message)

    return send_with_cookie
