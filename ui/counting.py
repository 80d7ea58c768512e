"""Under the prompt: how much of what the model reads at once it takes. See assets/count.js."""

from __future__ import annotations

import gradio as gr

from ui.controls import Controls

_HELP = "Models read words in parts, their tokens. Brackets and weights are none."
_COUNT = (
    f'<p id="prompt-count" title="{_HELP}"></p>'
    '<p id="prompt-cut" class="sr-only" role="status"></p>'
)


def build_count() -> None:
    """Build the empty line; the browser fills it."""
    gr.HTML(_COUNT, elem_id="count", apply_default_css=False)


def wire_count(controls: Controls) -> None:
    """Count again whenever the prompt, or how it is read, changes."""
    counted = [controls.prompt, controls.model, controls.prompt_syntax]
    gr.on(
        [one.change for one in counted],
        fn=None,
        inputs=[*counted],
        js="(...form) => croquisCount(...form)",
        show_progress="hidden",
        api_visibility="private",
    )
