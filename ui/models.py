"""The Models tab: what each model takes and where it stands; download, delete, use, add."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from html import escape
from typing import Any

import gradio as gr
from studio.errors import CroquisError
from studio.model_store import size_text
from studio.studio import Studio

from ui import words
from ui.clickable import clickable
from ui.create import Wiring
from ui.form import FOLLOWING, follow_model
from ui.model_table import render_downloads, render_head, render_table
from ui.parts import render_notice
from ui.refusing import value_of
from ui.showing import Updates

ADD_HELP = (
    "A name at the Hugging Face Hub, such as owner/name, or a folder on this machine, with a "
    "checkpoint in diffusers' layout."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsParts:
    """The components of the tab."""

    head: gr.HTML
    notice: gr.HTML
    downloads: gr.HTML
    table: gr.HTML
    seen: gr.HTML
    """Which table the page shows, not shown: one that has not changed is not sent again."""
    look: gr.Button
    """Not shown: assets/tabs.js presses it while the tab is open."""
    typed: gr.Textbox
    add: gr.Button


def build_models(studio: Studio, create: Wiring) -> None:
    """Build the tab inside the Blocks that is open, beside the Create page that `create` wires."""
    parts = ModelsParts(
        head=gr.HTML("<h2>Models</h2>", elem_id="models-head", apply_default_css=False),
        notice=gr.HTML("", elem_id="models-notice", apply_default_css=False),
        downloads=clickable("downloads", "stop_download"),
        table=clickable("models", "choose", "download", "stop_download", "delete_model", "forget"),
        seen=gr.HTML("", visible="hidden", elem_id="models-seen"),
        look=gr.Button(visible="hidden", elem_id="models-look"),
        **_build_add(is_shown=studio.shelf.is_open),
    )
    events = ModelsEvents(studio, parts, create)
    _wire(parts, events)
    _wire_choose(parts, events, create)


def _build_add(*, is_shown: bool) -> dict[str, Any]:
    """The box for a model that the list has not; not for visitors of a server for strangers."""
    with gr.Row(elem_id="add-model", visible=is_shown):
        typed = gr.Textbox(
            label="Add a model",
            info=ADD_HELP,
            placeholder="owner/name",
            max_lines=1,
            elem_id="add-typed",
            html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
        )
        add = gr.Button("Add", elem_id="add-button")
    return {"typed": typed, "add": add}


def _wire(parts: ModelsParts, events: ModelsEvents) -> None:
    changing = [
        getattr(parts, one.name)
        for one in fields(parts)
        if one.name not in ("look", "add", "typed")
    ]
    quick: dict[str, Any] = {
        "queue": False,
        "show_progress": "hidden",
        "api_visibility": "private",
        "outputs": changing,
    }
    parts.look.click(events.on_look, inputs=[parts.seen], trigger_mode="once", **quick)
    for listener, fn in (
        (parts.table.download, events.on_download),
        (parts.table.stop_download, events.on_stop),
        (parts.downloads.stop_download, events.on_stop),
        (parts.table.delete_model, events.on_delete),
        (parts.table.forget, events.on_forget),
    ):
        listener(events.refusing(fn), trigger_mode="multiple", **quick)
    for listener in (parts.add.click, parts.typed.submit):
        listener(events.refusing(events.on_add), inputs=[parts.typed], **quick)


def _wire_choose(parts: ModelsParts, events: ModelsEvents, create: Wiring) -> None:
    create.ask(
        parts.table.choose,
        events.on_choose,
        trigger_mode="multiple",
        form_model=create.parts.form_model,
        **create.parts.controls.by_field(),
    )


class ModelsEvents:
    """The event functions of the tab."""

    def __init__(self, studio: Studio, parts: ModelsParts, create: Wiring) -> None:
        self._studio = studio
        self._parts = parts
        self._create = create

    def on_look(self, seen: str) -> Updates:
        """Show how far the downloads are, and the table if it has changed."""
        return self._shown(seen)

    def on_download(self, event: gr.EventData) -> Updates:
        """Fetch a model, so that its first picture need not wait for it."""
        self._studio.shelf.download(value_of(event))
        return self._shown() | {self._parts.notice: ""}

    def on_stop(self, event: gr.EventData) -> Updates:
        """Stop a download; what came is kept."""
        self._studio.shelf.stop(value_of(event))
        return self._shown() | {self._parts.notice: ""}

    def on_delete(self, event: gr.EventData) -> Updates:
        """Remove a model's files, at the second click."""
        key = value_of(event)
        freed = self._studio.shelf.delete(key)
        title = self._studio.catalogue.get_model(key).title
        return self._told(f"{title} is deleted; {size_text(freed)} are free again.")

    def on_add(self, typed: str) -> Updates:
        """Know one more model."""
        key = self._studio.shelf.add(typed)
        self._offer_choices()
        title = self._studio.catalogue.get_model(key).title
        return self._told(f"{title} is in the list.")

    def on_forget(self, event: gr.EventData) -> Updates:
        """Take a model off the list that was added here."""
        key = value_of(event)
        title = self._studio.catalogue.get_model(key).title
        self._studio.shelf.forget(key)
        self._offer_choices()
        return self._told(f"{title} is off the list; its files stay until they are deleted.")

    def on_choose(
        self, event: gr.EventData, asked: str, form_model: str, **values: object
    ) -> Updates:
        """Choose a model in the form, as its list there does."""
        catalogue = self._studio.catalogue
        old, new = catalogue.get_model(form_model), catalogue.get_model(value_of(event))
        followed = follow_model(catalogue, old, new, {**values, "model": new.key})
        names = ("model", *FOLLOWING, "width", "height", "start_task")
        following = {name: followed.values[name] for name in names}
        updates = self._create.show.form(asked, following, followed.values)
        if new is not old:
            sentence = render_notice(escape(followed.sentence))
            updates[self._create.parts.notice] = sentence
        return updates

    def refusing(self, fn: Callable[..., Updates]) -> Callable[..., Updates]:
        """Let an event answer a CroquisError with its text, inside the tab."""

        @wraps(fn)
        def answer(*args: Any) -> Updates:
            try:
                return fn(*args)
            except CroquisError as exc:
                notice = render_notice(escape(words.plain(str(exc))), error=True)
                return self._shown() | {self._parts.notice: notice}

        return answer

    def _told(self, sentence: str) -> Updates:
        return self._shown() | {self._parts.notice: render_notice(escape(sentence))}

    def _shown(self, seen: str = "") -> Updates:
        """The tab as it is now; the table only if the page shows another."""
        studio, parts, shelf = self._studio, self._parts, self._studio.shelf
        rows = shelf.rows()
        table = render_table(rows, is_open=shelf.is_open, has_token=shelf.has_token)
        titles = {row.spec.key: row.spec.title for row in rows}
        head = render_head(
            shelf.taken_bytes(),
            shelf.free_bytes(),
            is_open=shelf.is_open,
            is_offline=studio.settings.offline,
        )
        updates: Updates = {
            parts.head: head,
            parts.downloads: render_downloads(studio.downloads.active(), titles),
        }
        now = hashlib.sha256(table.encode()).hexdigest()
        return updates if now == seen else updates | {parts.table: table, parts.seen: now}

    def _offer_choices(self) -> None:
        """Let the server take the form's model: it compares with what the list was built with."""
        models = self._studio.catalogue.models.values()
        choices = [(spec.title, spec.key) for spec in models]
        self._create.parts.controls.model.choices = choices
