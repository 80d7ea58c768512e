"""What stands between a browser and an event: errors become words, wrong values errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import gradio as gr
from studio.errors import CroquisError, NotFound

from ui.showing import Show, Updates

Event = Callable[..., Updates]


def refusing(event: Event, show: Show) -> Event:
    """Let an event answer a CroquisError with its text, inside the page."""

    @wraps(event)
    def answer(*args: object, **kwargs: object) -> Updates:
        try:
            return event(*args, **kwargs)
        except CroquisError as exc:
            return show.refusal(exc)

    return answer


def value_of(event: gr.EventData) -> str:
    """What the clicked button carries; a request made by hand may carry anything."""
    try:
        value = event.value
    except (AttributeError, TypeError):
        value = None
    if not isinstance(value, str):
        raise NotFound("There is no such thing on this page.")
    return value
