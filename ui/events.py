"""What is drawn and looked at on the Create page: each event of ui/create.py is a method here.

A method returns the parts that change. Nothing is kept between two events but in the page's
own gr.State: two visitors share this object.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import gradio as gr
from studio.errors import InvalidRequest, NotFound
from studio.jobs import Job, JobState
from studio.request import RANDOM_SEED, GenerationRequest
from studio.studio import Studio

from ui.adapters import without_adapters
from ui.examples import Example
from ui.form import (
    Values,
    restore,
    shown_of,
    to_request,
)
from ui.missing import without_missing
from ui.parts import Parts, Undo, View, render_notice
from ui.pictures import PAGE
from ui.refusing import value_of
from ui.showing import Show, Updates, stop_button
from ui.stage import render_live, render_progress
from ui.start_events import with_mask
from ui.visitor import NO_COOKIE, keeping_owner_of, keeps_cookie, owner_of
from ui.watch import active_jobs, watch


class CreateEvents:
    """The event functions, around the studio and the page's parts."""

    def __init__(
        self, studio: Studio, parts: Parts, examples: tuple[Example, ...], show: Show
    ) -> None:
        self._studio = studio
        self._parts = parts
        self._examples = examples
        self._show = show

    # Coming and going

    def on_load(self, asked: str, saved: object, request: gr.Request) -> Updates:
        """Bring back what this visitor made and still has running; mend the kept form.

        The browser itself has brought the form back, as it was.
        """
        owner = owner_of(request)
        values = restore(self._studio.catalogue, saved, self._studio.settings.model)
        values |= without_missing(self._studio, owner, values)
        kept = saved if isinstance(saved, dict) else {}
        mended = {name: value for name, value in values.items() if value != kept.get(name)}
        updates = self._show.form(asked, mended, values)
        updates |= self._show.newest(owner)
        active = self._studio.jobs(owner, active_only=True, limit=1)
        updates[self._parts.started] = active[0].id if active else ""
        if values["start_picture"]:
            updates |= self._show.paint(owner, values)
        if not keeps_cookie(request):
            updates |= self._show.refusal(InvalidRequest(NO_COOKIE))
        return updates

    def on_look_again(self, view: View, request: gr.Request) -> Updates:
        """Show on an idle page what another tab of this visitor has drawn, and follow its run."""
        owner = owner_of(request)
        updates = self._show.strip(owner, view)
        if active := self._studio.jobs(owner, active_only=True, limit=1):
            updates[self._parts.started] = active[0].id
        return updates

    async def on_watch(self, started: str, request: gr.Request) -> AsyncIterator[Updates]:
        """Show the visitor's jobs, one after the other, until none is active."""
        parts = self._parts
        async for glimpse in watch(self._studio, owner_of(request), str(started)):
            if glimpse.ended:
                yield {parts.ended: glimpse.job.id}
            else:
                yield {
                    parts.drawn: glimpse.job.id,
                    parts.live: render_live(glimpse.progress, glimpse.job.request),
                    parts.progress: render_progress(glimpse.progress, glimpse.others),
                    parts.stop: stop_button(enabled=True),
                }

    def on_ended(self, ended: str, view: View, request: gr.Request) -> Updates:
        """Put a job's result onto the sheet, unless the visitor looks at something else."""
        owner = owner_of(request)
        active = self._studio.jobs(owner, active_only=True, limit=1)
        updates: Updates = {self._parts.stop: gr.skip()} if active else self._show.idle()
        try:
            job = self._studio.job(str(ended), owner)
        except NotFound:
            return updates
        if view.browsing and job.state is not JobState.FAILED:
            return updates | self._show.strip(owner, view)
        return updates | self._show.result(owner, job, view)

    # Drawing

    def on_create(self, view: View, request: gr.Request, **values: object) -> Updates:
        """Submit what the form holds."""
        owner = keeping_owner_of(request)
        return self._submit(request, self._request(with_mask(self._studio, owner, values)), view)

    def on_example(
        self, event: gr.EventData, asked: str, view: View, request: gr.Request, **values: object
    ) -> Updates:
        """Put an example's prompt into the form and draw it with the example's seed."""
        example = self._example(value_of(event))
        taken: Values = {
            "prompt": example.prompt,
            "negative_prompt": example.negative_prompt,
        }
        wanted = self._request(dict(values) | taken | {"seed": example.seed})
        updates = self._submit(request, wanted, view)
        updates |= self._show.answer(asked, taken)
        typed = values["prompt"]
        if typed and typed not in {known.prompt for known in self._examples}:
            updates[self._parts.undo] = Undo(values=dict(values))
            updates[self._parts.notice] = render_notice("Your prompt was replaced.", undo=True)
        return updates

    def on_vary(self, event: gr.EventData, view: View, request: gr.Request) -> Updates:
        """Draw a picture's settings again with a new seed."""
        recipe = self._studio.picture(value_of(event), owner_of(request)).recipe
        return self._submit(request, recipe.request.with_seed(RANDOM_SEED), view)

    def on_enlarge(self, event: gr.EventData, view: View, request: gr.Request) -> Updates:
        """Make a new picture from one, four times as large."""
        owner = keeping_owner_of(request)
        return self._started(owner, self._studio.enlarge(value_of(event), owner), view)

    def on_retry(self, event: gr.EventData, view: View, request: gr.Request) -> Updates:
        """Submit a failed or stopped job again."""
        owner = keeping_owner_of(request)
        job = self._studio.retry(value_of(event), owner)
        return self._started(owner, job, view)

    def on_stop(self, drawn: str, ended: str, started: str, request: gr.Request) -> Updates:
        """Stop the job that the page showed; before it showed any, the one submitted last.

        A page that knows that job to have ended, but shows no other yet, means the next one.
        """
        owner = owner_of(request)
        active = [job.id for job in active_jobs(self._studio, owner)]
        shown = str(drawn) or str(started)
        if drawn and drawn == ended and active:
            shown = active[0]
        if shown in active:
            self._studio.cancel(shown, owner)
        # One that has ended meanwhile: what comes after it goes on and can still be stopped.
        return {self._parts.stop: stop_button(enabled=bool(active) and shown not in active)}

    def on_stop_all(self, request: gr.Request) -> Updates:
        """Stop every job of this visitor."""
        owner = owner_of(request)
        for job in self._studio.jobs(owner, active_only=True, limit=None):
            self._studio.cancel(job.id, owner)
        return {self._parts.stop: stop_button(enabled=False)}

    # Looking

    def on_pick(self, picked: str, view: View, request: gr.Request) -> Updates:
        """Put a picture onto the sheet."""
        shown = replace(view, picture_id=str(picked), browsing=True)
        return self._show.look(owner_of(request), shown)

    def on_more(self, view: View, request: gr.Request) -> Updates:
        """Show older thumbnails too."""
        grown = replace(view, thumbnails=view.thumbnails + PAGE)
        return {self._parts.view: grown} | self._show.strip(owner_of(request), grown)

    def on_follow(self, view: View, request: gr.Request) -> Updates:
        """Let the job that runs have the sheet again."""
        return self._show.look(owner_of(request), replace(view, browsing=False))

    def on_delete(self, event: gr.EventData, view: View, request: gr.Request) -> Updates:
        """Delete a picture, show its neighbour, and offer to undo it."""
        owner, deleted = owner_of(request), value_of(event)
        shown = [picture.id for picture in self._studio.pictures(owner, view.thumbnails)]
        self._studio.delete_picture(deleted, owner)
        place = shown.index(deleted) if deleted in shown else 0
        left = [picture for picture in shown if picture != deleted]
        neighbour = left[min(place, len(left) - 1)] if left else None
        updates = self._show.look(owner, replace(view, picture_id=neighbour))
        updates[self._parts.undo] = Undo(picture_id=deleted)
        updates[self._parts.notice] = render_notice("The picture is deleted.", undo=True)
        return updates

    def _request(self, values: Values) -> GenerationRequest:
        """What the form stands for; what the model hides is as the model sets it."""
        model = self._studio.catalogue.models.get(str(values["model"]))
        if model is None:
            return to_request(values)
        offered = self._studio.controls.offered(model)
        return to_request(shown_of(model, values) | without_adapters(model, offered))

    def _submit(self, request: gr.Request, wanted: GenerationRequest, view: View) -> Updates:
        owner = keeping_owner_of(request)
        return self._started(owner, self._studio.submit(wanted, owner), view)

    def _example(self, number: str) -> Example:
        known = {str(place): example for place, example in enumerate(self._examples)}
        if number not in known:
            raise NotFound("There is no such example: load this page again.")
        return known[number]

    def _started(self, owner: str, job: Job, view: View) -> Updates:
        """The page after a job was accepted."""
        updates = self._show.look(owner, replace(view, browsing=False))
        updates |= {
            self._parts.started: job.id,
            self._parts.notice: "",
            self._parts.undo: Undo(),
            self._parts.stop: stop_button(enabled=True),
        }
        return updates
