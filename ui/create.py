"""The Create page: which event calls what."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import gradio as gr
from gradio.components import Component
from studio.studio import Studio

from ui.adapter_events import AdapterEvents
from ui.adapters import ROWS
from ui.browser import ask_js, wire_browser, wire_restore
from ui.events import CreateEvents
from ui.examples import Example
from ui.form import Values, defaults_of
from ui.form_events import FormEvents
from ui.layout import build_layout
from ui.live_events import LiveEvents, wire_live
from ui.parts import Parts
from ui.refusing import Event, refusing
from ui.showing import Show
from ui.start_events import StartEvents

Listener = Callable[..., object]
TriggerMode = Literal["multiple", "always_last"]


def build_create(studio: Studio, examples: tuple[Example, ...], blocks: gr.Blocks) -> Wiring:
    """Build the page inside the Blocks that is open; return what wires more events to it."""
    parts = build_layout(studio, examples)
    show = Show(studio, parts, examples)
    events = CreateEvents(studio, parts, examples, show)
    fresh = defaults_of(studio.catalogue.get_model(studio.settings.model))
    wire_browser(parts, fresh)
    wiring = Wiring(parts, show, fresh)
    _wire_drawing(parts, events, wiring)
    _wire_looking(parts, events, wiring)
    _wire_form(parts, FormEvents(studio, parts, show), wiring)
    _wire_start(parts, StartEvents(studio, parts, show), wiring)
    _wire_adapters(parts, AdapterEvents(studio, parts, show), wiring)
    live = LiveEvents(studio, parts, show)
    wire_live(parts, live)
    keep, view, sketched = parts.sketch_line.keep, parts.view, parts.sketched
    wiring.on(keep, live.on_keep, trigger_mode="multiple", view=view, sketched=sketched)
    restored = wire_restore(parts, fresh, blocks)
    # Asked at time 0, before any change: it mends only what the visitor has not touched since.
    wiring.on(restored.then, events.on_load, asked=parts.asked, saved=parts.saved)
    return wiring


class Wiring:
    """Wires quick events: each may change any part but the fields, which are the visitor's."""

    def __init__(self, parts: Parts, show: Show, fresh: Values) -> None:
        self.parts = parts
        self.show = show
        self._fresh = fresh
        run = [parts.live, parts.progress, parts.stop, parts.drawn, parts.started]
        gallery = [parts.sheet, parts.actions, parts.details, parts.strip, parts.view]
        gallery += [parts.turning, parts.solid]
        paint = parts.controls.start_paint
        self._quick: dict[str, Any] = {
            "queue": False,
            "show_progress": "hidden",
            "api_visibility": "private",
            "outputs": [*run, *gallery, parts.notice, parts.undo, parts.answer, paint],
        }

    def on(
        self,
        listener: Listener,
        fn: Event,
        *,
        trigger_mode: TriggerMode = "always_last",
        js: str | None = None,
        **inputs: Component,
    ) -> None:
        """Wire an event; of several that come while one is under way, the last one counts.

        Gradio sends that last one with the EventData of the first: an event that reads them must
        be "multiple".
        """
        answer = refusing(fn, self.show)
        quick = self._quick | {"js": js, "trigger_mode": trigger_mode}
        listener(answer, inputs_kwargs=inputs, **quick)

    def ask(
        self,
        listener: Listener,
        fn: Event,
        *,
        trigger_mode: TriggerMode = "always_last",
        **inputs: Component,
    ) -> None:
        """Wire an event that may fill fields: its answer says when it was asked."""
        js = ask_js(self._fresh, inputs)
        self.on(listener, fn, trigger_mode=trigger_mode, js=js, asked=self.parts.asked, **inputs)


def _wire_drawing(parts: Parts, events: CreateEvents, wiring: Wiring) -> None:
    page: dict[str, Any] = {"view": parts.view, **parts.controls.by_field()}
    # Each click counts, also while the answer to the last one is on its way.
    painted = page | {"start_paint": parts.controls.start_paint}
    seeded = f"(...values) => croquisLive.create({json.dumps([*painted])}, values)"
    wiring.on(parts.create.click, events.on_create, trigger_mode="multiple", js=seeded, **painted)
    for examples in (parts.examples, parts.sheet):
        wiring.ask(examples.example, events.on_example, trigger_mode="multiple", **page)
    for listener, fn in (
        (parts.actions.vary, events.on_vary),
        (parts.actions.enlarge, events.on_enlarge),
        (parts.sheet.retry, events.on_retry),
    ):
        wiring.on(listener, fn, trigger_mode="multiple", view=parts.view)
    run: dict[str, Any] = {"drawn": parts.drawn, "ended": parts.ended, "started": parts.started}
    wiring.on(parts.stop.click, events.on_stop, **run)
    wiring.on(parts.progress.stop_all, events.on_stop_all)
    parts.started.change(
        events.on_watch,
        inputs=[parts.started],
        outputs=[parts.live, parts.progress, parts.stop, parts.drawn, parts.ended],
        concurrency_limit=None,
        show_progress="hidden",
        api_visibility="private",
    )
    wiring.on(parts.ended.change, events.on_ended, ended=parts.ended, view=parts.view)


def _wire_looking(parts: Parts, events: CreateEvents, wiring: Wiring) -> None:
    # One at a time, so that the last one picked is shown last: page.js says which that is.
    js = "(picked, ...values) => [window.croquisPicked, ...values]"
    for strip in (parts.strip, parts.sheet):
        wiring.on(strip.pick, events.on_pick, js=js, picked=parts.asked, view=parts.view)
    wiring.on(parts.strip.more, events.on_more, view=parts.view)
    wiring.on(parts.look_again.click, events.on_look_again, view=parts.view)
    wiring.on(parts.progress.follow, events.on_follow, view=parts.view)
    wiring.on(parts.actions.delete, events.on_delete, trigger_mode="multiple", view=parts.view)


def _wire_form(parts: Parts, events: FormEvents, wiring: Wiring) -> None:
    fields = parts.controls.by_field()
    wiring.ask(parts.controls.model.input, events.on_model, form_model=parts.form_model, **fields)
    wiring.ask(parts.notice.undo, events.on_undo, undo=parts.undo, view=parts.view)
    wiring.ask(parts.actions.use, events.on_use, trigger_mode="multiple", **fields)
    wiring.ask(parts.dropped.upload, events.on_dropped, dropped=parts.dropped, **fields)
    wiring.ask(parts.last_seed.click, events.on_last_seed)


def _wire_adapters(parts: Parts, events: AdapterEvents, wiring: Wiring) -> None:
    own: dict[str, Any] = parts.controls.adapters
    fields: dict[str, Any] = parts.controls.by_field()
    view = parts.view
    for row in ROWS:
        wiring.ask(own[row].blur, events.on_changed, **fields)
        away = own[f"{row}_view"].unlora
        wiring.ask(away, events.on_remove, trigger_mode="multiple", **fields)
    file = own["adapter_file"]
    wiring.ask(file.upload, events.on_file, adapter_file=file, **fields)
    for name in ("control_kind", "control_ready"):
        wiring.ask(own[name].input, events.on_changed, **fields)
    wiring.ask(own["control_shown"].click, events.on_control_shown, view=view, **fields)
    wiring.ask(own["reference_shown"].click, events.on_reference_shown, view=view, **fields)
    control, reference = own["control_file"], own["reference_file"]
    wiring.ask(control.upload, events.on_control_file, file=control, **fields)
    wiring.ask(reference.upload, events.on_reference_file, file=reference, **fields)
    wiring.ask(own["control_view"].uncontrol, events.on_uncontrol, **fields)
    wiring.ask(own["reference_view"].unrefer, events.on_unrefer, **fields)


def _wire_start(parts: Parts, events: StartEvents, wiring: Wiring) -> None:
    controls = parts.controls
    fields = controls.by_field()
    wiring.ask(parts.actions.modify, events.on_modify, trigger_mode="multiple", **fields)
    wiring.ask(parts.brought.upload, events.on_brought, brought=parts.brought, **fields)
    wiring.ask(controls.start_view.unstart, events.on_unstart, **fields)
    wiring.ask(controls.second_scale.input, events.on_second, **fields)
    for choice in (controls.start_task, controls.start_area):
        wiring.ask(choice.input, events.on_choice, **fields)
    wiring.on(parts.actions.stage, events.on_stage, trigger_mode="multiple", view=parts.view)
