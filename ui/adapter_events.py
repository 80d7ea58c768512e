"""What happens around LoRAs, embeddings and pictures to follow: each event is one method here."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

import gradio as gr
from studio.errors import InvalidRequest
from studio.studio import Studio

from ui import words
from ui.adapters import added, described, removed
from ui.form import Values
from ui.parts import Parts, Undo, View, render_notice
from ui.refusing import value_of
from ui.showing import Show, Updates
from ui.visitor import keeping_owner_of, owner_of


class AdapterEvents:
    """The event functions around what is added to a model."""

    def __init__(self, studio: Studio, parts: Parts, show: Show) -> None:
        self._studio = studio
        self._parts = parts
        self._show = show

    def on_changed(self, asked: str, request: gr.Request, **values: object) -> Updates:
        """Show what the choice needs: another row, another preview."""
        return self._show.form(asked, {}, values, owner_of(request))

    def on_file(
        self, asked: str, adapter_file: str | None, request: gr.Request, **values: object
    ) -> Updates:
        """Keep a LoRA or an embedding of the visitor's, and put it into the form."""
        if not adapter_file:
            raise InvalidRequest("No file arrived: choose one again.")
        file, owner = Path(adapter_file), keeping_owner_of(request)
        try:
            kept = self._studio.keep_adapter(file, file.name, owner)
        finally:
            file.unlink(missing_ok=True)
        taken = added(kept, values)
        updates = self._show.form(asked, taken, {**values, **taken}, owner)
        said = escape(words.plain(described(kept)))
        return updates | {self._parts.notice: render_notice(said), self._parts.undo: Undo()}

    def on_remove(
        self, event: gr.EventData, asked: str, request: gr.Request, **values: object
    ) -> Updates:
        """Draw without one of the LoRAs."""
        taken = removed(value_of(event), values)
        return self._show.form(asked, taken, {**values, **taken}, owner_of(request))

    def on_control_shown(
        self, asked: str, view: View, request: gr.Request, **values: object
    ) -> Updates:
        """Follow the picture on the sheet."""
        return self._follow(asked, "control", self._shown(view), owner_of(request), values)

    def on_reference_shown(
        self, asked: str, view: View, request: gr.Request, **values: object
    ) -> Updates:
        """Take over the subject and style of the picture on the sheet."""
        return self._follow(asked, "reference", self._shown(view), owner_of(request), values)

    def on_control_file(
        self, asked: str, file: str | None, request: gr.Request, **values: object
    ) -> Updates:
        """Follow a picture that the visitor brings."""
        owner = keeping_owner_of(request)
        return self._follow(asked, "control", self._kept(file, owner), owner, values)

    def on_reference_file(
        self, asked: str, file: str | None, request: gr.Request, **values: object
    ) -> Updates:
        """Take over the subject and style of a picture that the visitor brings."""
        owner = keeping_owner_of(request)
        return self._follow(asked, "reference", self._kept(file, owner), owner, values)

    def on_uncontrol(self, asked: str, request: gr.Request, **values: object) -> Updates:
        """Follow no picture."""
        return self._follow(asked, "control", "", owner_of(request), values)

    def on_unrefer(self, asked: str, request: gr.Request, **values: object) -> Updates:
        """Refer to no picture."""
        return self._follow(asked, "reference", "", owner_of(request), values)

    def _shown(self, view: View) -> str:
        if view.picture_id is None:
            raise InvalidRequest("There is no picture on the sheet yet: draw or bring one.")
        return view.picture_id

    def _kept(self, file: str | None, owner: str) -> str:
        if not file:
            raise InvalidRequest("No picture arrived: choose one again.")
        path = Path(file)
        try:
            return self._studio.keep_input(path, owner)
        finally:
            path.unlink(missing_ok=True)

    def _follow(
        self, asked: str, name: str, picture: str, owner: str, values: Mapping[str, object]
    ) -> Updates:
        if picture:
            self._studio.image(picture, owner)  # the visitor's own, and still here
        taken: Values = {f"{name}_picture": picture}
        return self._show.form(asked, taken, {**values, **taken}, owner)
