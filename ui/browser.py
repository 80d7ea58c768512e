"""What the page does by itself: the kept form, and whose value a field has. See assets/form.js."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from typing import Any

import gradio as gr
from gradio.events import Dependency

from ui.counting import wire_count
from ui.form import FIELDS, Values
from ui.parts import Parts

_quick = partial(gr.on, fn=None, show_progress="hidden", api_visibility="private")


def wire_browser(parts: Parts, fresh: Values) -> None:
    """Wire the events that never leave the browser; `fresh` is the form at first."""
    controls, form = parts.controls, form_js(fresh)
    fields: list[Any] = [*controls.by_field().values()]
    # `change`, not `input`: that one still sends the value before the last key.
    _quick(
        [field.change for field in fields],
        inputs=[parts.saved, *fields],
        outputs=[parts.saved],
        js=f"(saved, ...values) => {form}.keep(saved, values)",
    )
    _quick(parts.dropped.change, inputs=[parts.dropped], js=f"(dropped) => {form}.see({{dropped}})")
    fillable = parts.fillable()
    _quick(
        parts.answer.change,
        inputs=[parts.answer],
        outputs=[*fillable.values()],
        js=f"(answer) => {form}.fill(answer, {json.dumps([*fillable])})",
    )
    _quick(
        controls.size.input,
        inputs=[controls.size],
        outputs=[controls.width, controls.height],
        js="(size) => size.split('x').map(Number)",
    )
    _quick(
        [controls.width.change, controls.height.change],
        inputs=[controls.width, controls.height],
        outputs=[controls.size],
        js="(width, height) => `${width}x${height}`",
    )
    wire_count(controls)
    _quick(parts.random_seed.click, outputs=[controls.seed], js="() => ''")


def wire_restore(parts: Parts, fresh: Values, blocks: gr.Blocks) -> Dependency:
    """Bring the kept form back when the page opens; the server is not asked for it."""
    fields = [*parts.controls.by_field().values()]
    return _quick(
        blocks.load,
        inputs=[parts.saved, *fields],
        outputs=[parts.saved, *fields],
        js=f"(saved, ...values) => {form_js(fresh)}.restore(saved, values)",
    )


def ask_js(fresh: Values, names: Iterable[str]) -> str:
    """What runs before a question leaves: its first input becomes the time it was asked."""
    listed = json.dumps([*names])
    return f"(asked, ...values) => [{form_js(fresh)}.ask({listed}, values), ...values]"


def form_js(fresh: Values) -> str:
    """The form of assets/form.js, as an expression; it knows the fields by their order."""
    return f"croquisForm({json.dumps({name: fresh[name] for name in FIELDS})})"
