"""A thing in three dimensions: its turning view, its mesh in a viewer, and both to download."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import gradio as gr
from gradio.components import Component
from studio.attachments import GIF, GLB
from studio.pictures import Picture

from ui import words

if TYPE_CHECKING:
    from ui.parts import Parts

VIEWER_HEIGHT = 320
"""Px."""
_WHITE = (1.0, 1.0, 1.0, 1.0)
"""Red, green, blue and opacity of the viewer's ground: that of the views."""
_ADDRESS = """(id) => {
  const place = `pictures/${id}.glb`;
  return id ? { path: place, url: place, orig_name: 'mesh.glb' } : null;
}"""


def build_solid() -> dict[str, Component]:
    """Build the parts; nothing of the viewer but its frame is loaded until there is a mesh."""
    solid = gr.HTML("", visible="hidden", elem_id="solid-id")
    with gr.Column(elem_id="solid"):
        turning = gr.HTML("", elem_id="turning", apply_default_css=False)
        mesh = gr.Model3D(
            interactive=False,
            label="Mesh: drag to turn it",
            clear_color=_WHITE,
            height=VIEWER_HEIGHT,
            elem_id="mesh",
        )
    # The browser says what the viewer loads: from the server, Gradio would first copy the file to
    # where its address alone opens it. Ours asks for the visitor's cookie.
    solid.change(
        None, inputs=[solid], outputs=[mesh], js=_ADDRESS, queue=False, api_visibility="private"
    )
    return {"solid": solid, "turning": turning}


def show_solid(parts: Parts, picture: Picture | None) -> dict[Component, object]:
    """The parts for the picture on the sheet, hidden if it is flat."""
    has_mesh = picture is not None and picture.attachment(GLB) is not None
    return {
        parts.turning: render_turning(picture) if picture is not None else "",
        parts.solid: picture.id if picture is not None and has_mesh else "",
    }


def render_turning(picture: Picture) -> str:
    """The view from all sides, and the files; assets/page.js lets it turn and stand.

    Who asks for less motion sees the first view until a press of the button.
    """
    if picture.attachment(GIF) is None:
        return ""
    place = f"pictures/{picture.id}"
    said = escape(words.shorten(picture.recipe.request.prompt, 120))
    mesh = picture.attachment(GLB) is not None
    kind = "turning meshed" if mesh else "turning"
    return (
        f'<figure class="{kind}"><picture data-still="{place}.png" data-turning="{place}{GIF}">'
        f'<source media="(prefers-reduced-motion: reduce)" srcset="{place}.png">'
        f'<img src="{place}{GIF}" alt="Seen from all sides: {said}" width="{picture.width}"'
        f' height="{picture.height}"></picture><figcaption>'
        '<button type="button" class="quiet" data-turn aria-label="Turn it, or let it stand">'
        "Turn or stop</button>"
        f"{_link(place, GIF, 'Download GIF')}{_link(place, GLB, 'Download mesh') if mesh else ''}"
        "</figcaption></figure>"
    )


def _link(place: str, suffix: str, text: str) -> str:
    return f'<a class="quiet" href="{place}{suffix}?download=1" download>{text}</a>'
