"""Who is asking: the owner of jobs and pictures behind a Gradio request."""

from __future__ import annotations

import hashlib

import gradio as gr
from studio.errors import InvalidRequest

NO_COOKIE = (
    "Your browser sent no cookie, so this page could not show you your pictures. Allow cookies "
    "for it and load it again; what you wrote is kept."
)


def owner_of(request: gr.Request) -> str:
    """The owner that api/visitor.py found in the browser's cookie.

    A caller without the cookie (gradio_client, or a browser that refuses it) is known by its
    Gradio session alone, so it keeps its jobs until it reloads.

    Raises:
        gr.Error: the caller has neither, so that nothing tells it from another.
    """
    owner = _owner_by_cookie(request)
    if owner is not None:
        return owner
    if not request.session_hash:
        raise gr.Error("Croquis does not know whose request this is. Open the page first.")
    session = f"session:{request.session_hash}"
    return hashlib.sha256(session.encode()).hexdigest()[:32]


def keeping_owner_of(request: gr.Request) -> str:
    """The owner of what the page is about to draw.

    Raises:
        InvalidRequest: without the cookie nobody could look at the pictures.
    """
    owner = _owner_by_cookie(request)
    if owner is None:
        raise InvalidRequest(NO_COOKIE)
    return owner


def keeps_cookie(request: gr.Request) -> bool:
    """Whether the browser sent the visitor's cookie."""
    return _owner_by_cookie(request) is not None


def _owner_by_cookie(request: gr.Request) -> str | None:
    owner = getattr(request.request, "scope", {}).get("croquis_owner")
    return owner if isinstance(owner, str) else None
