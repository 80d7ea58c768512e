"""What happens while a visitor draws by typing: each event is one method here."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import gradio as gr
from studio.errors import Cancelled, CroquisError, NotFound
from studio.request import GenerationRequest
from studio.sketches import Sketch
from studio.specs import ModelSpec
from studio.studio import Studio

from ui.form import Values
from ui.live import (
    LIVE_FIELDS,
    render_on,
    render_refused,
    render_sketch,
    render_sketch_line,
    render_waiting,
    sketch_request,
)
from ui.parts import Parts, Undo, View
from ui.showing import Show, Updates, stop_button
from ui.visitor import keeping_owner_of

LOOK_S = 0.015
"""Between two looks whether the sketch is there; a thread for each page would use up Gradio's."""
WAIT_S = 2.0
"""After which the page is told why there is none yet, and asks again."""


class LiveEvents:
    """The event functions around sketches."""

    def __init__(self, studio: Studio, parts: Parts, show: Show) -> None:
        self._studio = studio
        self._parts = parts
        self._show = show

    async def on_sketch(
        self, asked: str, live_switch: bool, request: gr.Request, **values: object
    ) -> Updates:
        """Sketch what the form holds now; one that gave way to a newer one changes nothing."""
        parts = self._parts
        try:
            owner = keeping_owner_of(request)
            if not live_switch or not str(values["prompt"] or "").strip():
                self._studio.sketches.call_off(owner)
                return self._without_sketch(await self._note(values) if live_switch else "")
            return await self._sketch(str(asked), owner, values)
        except Cancelled:
            return {parts.live_note: gr.skip()}
        except CroquisError as exc:
            return self._without_sketch(render_refused(str(exc)))

    def on_keep(
        self, view: View, sketched: GenerationRequest | None, request: gr.Request
    ) -> Updates:
        """Draw the sketch that is shown as a picture to be kept."""
        owner = keeping_owner_of(request)
        if sketched is None:
            raise NotFound("There is no sketch any more: the server was started again.")
        self._studio.sketches.call_off(owner)
        job = self._studio.submit(sketched, owner)
        updates = self._show.look(owner, replace(view, browsing=False))
        started: Updates = {self._parts.started: job.id, self._parts.undo: Undo()}
        return updates | started | {self._parts.stop: stop_button(enabled=True)}

    async def _sketch(self, asked: str, owner: str, values: Values) -> Updates:
        parts, studio = self._parts, self._studio
        fast, chosen = await self._models(values)
        wanted = sketch_request(fast, chosen, values)
        sketch = await anyio.to_thread.run_sync(studio.live.ask, wanted, owner)
        picture = await self._drawn(sketch)
        if picture is None:
            is_loading = studio.availability(fast.key).state == "loading"
            return {parts.live_note: render_waiting(fast, asked, is_loading=is_loading)}
        return {
            parts.sketch: render_sketch(sketch.request, picture, asked),
            parts.sketch_line: render_sketch_line(sketch.request, fast),
            parts.sketched: sketch.request,
            parts.live_note: render_on(fast, chosen, values),
        }

    async def _drawn(self, sketch: Sketch) -> bytes | None:
        """The JPEG; None if it takes too long to wait for."""
        with anyio.move_on_after(WAIT_S):
            while (picture := self._studio.sketches.wait(sketch, 0)) is None:
                await anyio.sleep(LOOK_S)
            return picture
        return None

    async def _note(self, values: Values) -> str:
        return render_on(*await self._models(values), values)

    async def _models(self, values: Values) -> tuple[ModelSpec, ModelSpec]:
        """The model that sketches, and the one that is chosen."""
        chosen = self._studio.catalogue.get_model(str(values["model"]))
        fast = await anyio.to_thread.run_sync(self._studio.live.model_for, chosen.key)
        return fast, chosen

    def _without_sketch(self, note: str) -> Updates:
        parts = self._parts
        updates: Updates = {parts.sketch: "", parts.sketch_line: "", parts.sketched: None}
        return updates | {parts.live_note: note}


def wire_live(parts: Parts, events: LiveEvents) -> None:
    """Wire all but the button that keeps a sketch; see assets/live.js."""
    fields = parts.controls.by_field()
    quick = partial(gr.on, fn=None, show_progress="hidden", api_visibility="private")
    changed = [fields[name].change for name in LIVE_FIELDS]
    quick(changed, js="() => croquisLive.changed()")
    for listener, source, call in (
        (parts.live_switch.change, parts.live_switch, "turn"),
        (parts.sketch.change, parts.sketch, "shown"),
        (parts.live_note.change, parts.live_note, "noted"),
    ):
        quick(listener, inputs=[source], js=f"(value) => croquisLive.{call}(value)")
    quick(parts.random_seed.click, js="() => croquisLive.reseed()")
    quick(parts.ended.change, js="() => croquisLive.hide()")
    asking: dict[str, Any] = {"asked": parts.asked, "live_switch": parts.live_switch}
    asking |= {name: fields[name] for name in LIVE_FIELDS}
    # Each question goes at once: the studio lets the newest take the place of the older ones.
    parts.sketch_ask.click(
        events.on_sketch,
        inputs_kwargs=asking,
        outputs=[parts.sketch, parts.sketch_line, parts.sketched, parts.live_note],
        js=f"(...values) => croquisLive.ask({json.dumps([*asking])}, values)",
        queue=False,
        trigger_mode="multiple",
        show_progress="hidden",
        api_visibility="private",
    )
