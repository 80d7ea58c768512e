"""A gr.HTML whose `data-event` buttons reach Python."""

from __future__ import annotations

import gradio as gr

_LISTEN = """
const events = [%s];
element.addEventListener('click', (click) => {
  const button = click.target.closest('[data-event]');
  if (button && events.includes(button.dataset.event)) {
    trigger(button.dataset.event, { value: button.dataset.value });
  }
});
"""


def clickable(elem_id: str, *events: str, value: str = "") -> gr.HTML:
    """Build an HTML part in which `<button data-event="pick" data-value="7">` is live.

    A click triggers `part.pick(...)`; its function gets `gr.EventData` with `.value`.
    Gradio updates such a part in place, so that focus and listeners survive an update.
    """
    names = ", ".join(f"'{event}'" for event in events)
    return gr.HTML(value, elem_id=elem_id, js_on_load=_LISTEN % names, apply_default_css=False)
