"""What a page shows after an event, as the parts that change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from html import escape

import gradio as gr
from gradio.components import Component
from studio.errors import CroquisError, NotFound
from studio.jobs import Job, JobState
from studio.studio import Studio

from ui import controls, words
from ui.adapter_parts import fit_adapters
from ui.adapters import makes_preview, preview_of
from ui.examples import Example, render_examples
from ui.form import Values
from ui.parts import Parts, Undo, View, render_notice
from ui.pictures import render_actions, render_details, render_strip
from ui.solid import show_solid
from ui.stage import (
    render_empty,
    render_failed,
    render_picture,
    render_several,
    render_stopped,
)
from ui.starting import is_painting

EDITOR_SIDE = 1024
"""Px of the longer side of what is painted over; a mask needs no more."""
Updates = dict[Component, object]
Fit = dict[str, dict[str, object]]
"""Properties of controls by the control's name, see `ui.controls.fit`."""


class Show:
    """Turns what the studio knows into updates of one page's parts."""

    def __init__(self, studio: Studio, parts: Parts, examples: tuple[Example, ...]) -> None:
        self._studio = studio
        self._parts = parts
        self._examples = examples

    def look(self, owner: str, view: View) -> Updates:
        """The sheet, the actions, the recipe and the strip as the view says."""
        parts, studio = self._parts, self._studio
        try:
            picture = studio.picture(view.picture_id, owner) if view.picture_id else None
            job = studio.job(picture.job_id, owner) if picture else None
        except NotFound:
            picture = job = None
        updates: Updates = {
            parts.view: view,
            parts.actions: render_actions(picture, studio.catalogue),
            parts.details: render_details(picture, job, studio.catalogue),
        }
        if picture is not None:
            updates[parts.sheet] = render_picture(picture, browsing=view.browsing)
        else:
            own = studio.catalogue.get_model(studio.settings.model).defaults
            pictures = render_examples(self._examples)
            updates[parts.sheet] = render_empty(own.width, own.height, pictures)
        return updates | show_solid(parts, picture) | self.strip(owner, view)

    def strip(self, owner: str, view: View) -> Updates:
        """The thumbnails, as many as the view says."""
        found = self._studio.pictures(owner, limit=view.thumbnails + 1)
        shown = found[: view.thumbnails]
        strip = render_strip(shown, view.picture_id, more=len(found) > view.thumbnails)
        return {self._parts.strip: strip}

    def result(self, owner: str, job: Job, view: View) -> Updates:
        """What became of a job: its pictures, or why there are none."""
        parts = self._parts
        ids = job.picture_ids
        if job.state is JobState.DONE and ids:
            updates = self.look(owner, View(ids[0], thumbnails=view.thumbnails))
            if len(ids) > 1:
                found = self._studio.pictures(owner, limit=view.thumbnails)
                pictures = sorted(
                    (picture for picture in found if picture.job_id == job.id),
                    key=lambda picture: picture.index,
                )
                if len(pictures) > 1:
                    updates |= {parts.sheet: render_several(pictures)} | show_solid(parts, None)
            return updates
        updates = self.look(owner, View(thumbnails=view.thumbnails))
        if job.state is JobState.FAILED:
            updates[parts.sheet] = render_failed(job)
        elif job.state is JobState.CANCELLED:
            updates[parts.sheet] = render_stopped(job, len(ids))
        return updates

    def newest(self, owner: str) -> Updates:
        """The result of the newest job that has one, for a page that was just opened."""
        ended = [job for job in self._studio.jobs(owner, limit=20) if not job.is_active]
        newest = next((job for job in ended if job.picture_ids or job.error), None)
        if newest is not None:
            return self.result(owner, newest, View())
        pictures = self._studio.pictures(owner, limit=1)
        return self.look(owner, View(picture_id=pictures[0].id if pictures else None))

    def idle(self) -> Updates:
        """Nothing runs."""
        parts = self._parts
        stop = stop_button(enabled=False)
        return {parts.drawn: "", parts.live: "", parts.progress: "", parts.stop: stop}

    def form(
        self, asked: str, values: Values, whole: Mapping[str, object], owner: str | None = None
    ) -> Updates:
        """These values for the form, and every control fitted to the `whole` form with them.

        Args:
            owner: whose pictures may be shown as they are followed; None shows them as they are.
        """
        catalogue, key = self._studio.catalogue, str(whole["model"])
        fit = controls.fit(
            catalogue, catalogue.get_model(key), self._studio.availability(key), whole
        )
        model, maker = catalogue.get_model(key), self._studio.control_maker
        offered, preview = self._studio.controls.offered(model), ""
        if owner is not None and maker is not None and makes_preview(whole):
            with suppress(NotFound):  # deleted since: the form must stay usable
                picture = self._studio.image(str(whole["control_picture"]), owner)
                preview = preview_of(maker, str(whole["control_kind"]), picture)
        fit |= fit_adapters(model, offered, whole, preview)
        return self.answer(asked, values, fit | {"form_model": {"value": key}})

    def paint(self, owner: str, whole: Mapping[str, object]) -> Updates:
        """The brush over the picture to start from, if the form asks for one.

        Once shown it stays, and page.css hides it: torn down while it loads, it would fail.
        """
        editor = self._parts.controls.start_paint
        if not is_painting(whole):
            return {}
        try:
            picture = self._studio.image(str(whole["start_picture"]), owner)
        except NotFound:  # deleted since: the form must stay usable
            return {}
        picture.thumbnail((EDITOR_SIDE, EDITOR_SIDE))
        value = {"background": picture, "layers": [], "composite": picture}
        return {editor: gr.ImageEditor(value=value, visible=True)}

    def answer(self, asked: str, values: Values, fit: Fit | None = None) -> Updates:
        """What the browser puts into the form, but for what the visitor changed after `asked`."""
        said = {"asked": asked, "values": values, "fit": fit}
        return {self._parts.answer: json.dumps(said)}

    def filled(
        self, asked: str, before: Values, taken: Values, sentence: str, owner: str
    ) -> Updates:
        """The form after it was filled from somewhere, with the way back."""
        whole = {**before, **taken}
        updates = self.form(asked, taken, whole, owner) | self.paint(owner, whole)
        updates[self._parts.undo] = Undo(values=dict(before))
        updates[self._parts.notice] = render_notice(sentence, undo=True)
        return updates

    def refusal(self, error: CroquisError) -> Updates:
        """Why not, beside the form, which stays as it is."""
        text = words.plain(str(error))
        if isinstance(error, NotFound):
            text += " Perhaps it was deleted in another tab: load this page again."
        return {self._parts.notice: render_notice(escape(text), error=True)}


def stop_button(*, enabled: bool) -> gr.Button:
    """Stop, with something to stop or without."""
    return gr.Button("Stop", interactive=enabled)
