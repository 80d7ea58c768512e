"""The parts of the Create page that change while it is used, and what the page remembers."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from ui.controls import Controls
from ui.pictures import PAGE


@dataclass(frozen=True, slots=True)
class View:
    """What one page shows now; kept in that page's session only."""

    picture_id: str | None = None
    """The picture on the sheet."""
    browsing: bool = False
    """The visitor picked it while a job may run: what arrives must not push it away."""
    thumbnails: int = PAGE


@dataclass(frozen=True, slots=True)
class Undo:
    """The one thing that the notice's Undo button would bring back."""

    picture_id: str | None = None
    """A deleted picture."""
    values: dict[str, object] | None = None
    """What the form held before it was filled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Components by name, so that no event needs a list in the right order."""

    controls: Controls
    create: gr.Button
    stop: gr.Button
    random_seed: gr.Button
    last_seed: gr.Button
    dropped: gr.File
    brought: gr.UploadButton
    """A picture of the visitor's to start from."""
    notice: gr.HTML
    sheet: gr.HTML
    turning: gr.HTML
    """The view of a thing from all sides, if the picture on the sheet shows one."""
    solid: gr.HTML
    """Id of the picture on the sheet if it has a mesh, not shown; its change fills the viewer."""
    live: gr.HTML
    live_switch: gr.Checkbox
    """Whether sketches are drawn while the visitor types; off at every opening of the page."""
    live_note: gr.HTML
    """What draws the sketches, or why there is none."""
    sketch: gr.HTML
    """The layer over the sheet that a sketch is shown in."""
    sketch_line: gr.HTML
    sketch_ask: gr.Button
    """Not shown: assets/live.js presses it when a sketch is wanted."""
    sketched: gr.State
    """The request of the sketch that is shown."""
    progress: gr.HTML
    actions: gr.HTML
    strip: gr.HTML
    details: gr.HTML
    examples: gr.HTML
    view: gr.State
    undo: gr.State
    started: gr.HTML
    """Id of the job that was submitted last, not shown; its change starts the watching.
    It is no gr.State, whose change event does not fire after an event with `queue=False`."""
    drawn: gr.HTML
    """Id of the job that the page shows being drawn, not shown: the one that Stop stops."""
    ended: gr.HTML
    """Id of the job that ended last, not shown; its change brings the result onto the sheet."""
    look_again: gr.Button
    """Not shown: assets/page.js presses it when the visitor comes back to an idle page."""
    form_model: gr.HTML
    """Key of the model whose defaults the form took over last, not shown. It is no gr.State:
    a server that was started again has forgotten those."""
    saved: gr.BrowserState
    """The form's values, kept in the visitor's browser."""
    asked: gr.HTML
    """When a question went to the server, by the clock of assets/form.js; not shown."""
    answer: gr.Textbox
    """What the server would put into the form, as JSON, not shown. No event of the server has a
    field among its outputs: assets/form.js takes from the answer what the visitor left alone."""

    def fillable(self) -> dict[str, Component]:
        """The parts that an answer may fill, by name."""
        others: dict[str, Component] = {"form_model": self.form_model, "dropped": self.dropped}
        return self.controls.by_name() | others


def render_notice(text: str, *, error: bool = False, undo: bool = False) -> str:
    """A sentence beside the form; `text` is HTML."""
    role, css = ("alert", "error") if error else ("status", "note")
    button = (
        '<button type="button" class="quiet" data-event="undo" data-value="">Undo</button>'
        if undo
        else ""
    )
    return f'<div class="notice {css}" role="{role}"><p>{text}</p>{button}</div>'
