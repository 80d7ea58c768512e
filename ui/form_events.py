"""What fills the form of the Create page: each event of ui/create.py is one method here."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from pathlib import Path

import gradio as gr
from studio.errors import CroquisError, NotFound
from studio.studio import Studio

from ui import words
from ui.form import FOLLOWING, Values, fill, follow_model, from_request
from ui.missing import MISSING, parts_of
from ui.parts import Parts, Undo, View, render_notice
from ui.refusing import value_of
from ui.showing import Show, Updates
from ui.visitor import owner_of


class FormEvents:
    """The event functions that fill the form, around the studio and the page's parts."""

    def __init__(self, studio: Studio, parts: Parts, show: Show) -> None:
        self._studio = studio
        self._parts = parts
        self._show = show

    def on_undo(self, asked: str, undo: Undo, view: View, request: gr.Request) -> Updates:
        """Bring back the deleted picture or the form as it was."""
        updates: Updates = {self._parts.notice: "", self._parts.undo: Undo()}
        if undo.values is not None:
            owner = owner_of(request)
            updates |= self._show.form(asked, undo.values, undo.values, owner)
            return updates | self._show.paint(owner, undo.values)
        if undo.picture_id is None:
            raise NotFound("There is nothing left to undo: the server was started again.")
        owner = owner_of(request)
        self._studio.restore_picture(undo.picture_id, owner)
        return updates | self._show.look(owner, replace(view, picture_id=undo.picture_id))

    def on_use(
        self, event: gr.EventData, asked: str, request: gr.Request, **values: object
    ) -> Updates:
        """Copy a picture's settings into the form."""
        owner = owner_of(request)
        recipe = self._studio.picture(value_of(event), owner).recipe
        filled = fill(self._studio.catalogue, values, from_request(recipe.request))
        said = "The form has this picture's settings."
        return self._show.filled(asked, values, filled, said, owner)

    def on_dropped(
        self, asked: str, dropped: str | None, request: gr.Request, **values: object
    ) -> Updates:
        """Fill the form from a PNG's settings, and say what was found; draw nothing."""
        emptied: Values = {"dropped": None}
        if not dropped:
            return self._show.answer(asked, emptied)
        file = Path(dropped)
        try:
            found = self._studio.read_settings(file)
        except CroquisError as exc:
            return self._show.refusal(exc) | self._show.answer(asked, emptied)
        finally:
            file.unlink(missing_ok=True)
        sentences = [f"Taken from a picture by {escape(found.dialect)}: {_names(found.fields)}."]
        if found.unmapped:
            named = ", ".join(escape(words.shorten(name, 40)) for name in list(found.unmapped)[:12])
            sentences.append(f"Not understood: {named}.")
        sentences += [escape(words.plain(warning)) for warning in found.warnings]
        owner = owner_of(request)
        parts, missing = parts_of(self._studio, owner, found.request)
        sentences += [MISSING] if missing else []
        taken = fill(self._studio.catalogue, values, {**found.fields, **parts}) | emptied
        return self._show.filled(asked, values, taken, " ".join(sentences), owner)

    def on_last_seed(self, asked: str, request: gr.Request) -> Updates:
        """Put the seed of the newest job into the form."""
        jobs = self._studio.jobs(owner_of(request), limit=1)
        if not jobs:
            return {self._parts.notice: render_notice("No picture was drawn yet.")}
        return self._show.answer(asked, {"seed": str(jobs[0].request.seed)})

    def on_model(self, asked: str, form_model: str, **values: object) -> Updates:
        """Let the settings that the visitor has not touched follow the model."""
        catalogue = self._studio.catalogue
        old = catalogue.get_model(form_model)
        new = catalogue.get_model(str(values["model"]))
        followed = follow_model(catalogue, old, new, values)
        # Also those that stay: the answer to an earlier choice may have changed them meanwhile.
        others = ("width", "height", "start_task")
        following = {name: followed.values[name] for name in (*FOLLOWING, *others)}
        updates = self._show.form(asked, following, followed.values)
        # A choice is told twice: Gradio fires once more when its list closes.
        if new is not old:
            updates[self._parts.notice] = render_notice(escape(followed.sentence))
        return updates


def _names(found: object) -> str:
    names = [words.LABELS[name].lower() for name in found if name in words.LABELS]  # type: ignore[attr-defined]
    return escape(", ".join(names)) or "nothing"
