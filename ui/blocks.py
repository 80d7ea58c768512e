"""The whole page: its head, its tabs and its look."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from studio.studio import Studio

from ui.create import build_create
from ui.examples import load_examples
from ui.generate import build_generate
from ui.models import build_models
from ui.theme import build_theme

__all__ = ["build_blocks", "build_head", "build_theme"]

ASSETS = Path(__file__).resolve().parent.parent / "assets"

STYLES = ("page.css", "models.css")
SCRIPTS = ("tabs.js", "form.js", "page.js", "count.js", "live.js")
"""tabs.js first: the right tab shows before anything is drawn."""
TABS = (("Create", "#/"), ("Models", "#/models"))

# Uploads and API results in Gradio's cache live for a day at most.
_HOUR_S, _DAY_S = 3600, 24 * 3600

_KEYS = (
    ("Ctrl or Cmd + Enter", "Create"),
    ("Esc", "Stop"),
    ("← →", "Walk through your pictures"),
    ("?", "Show these keys"),
)


def build_blocks(studio: Studio) -> gr.Blocks:
    """Build the page around a studio. Needs `build_head` and `build_theme` when mounted."""
    with gr.Blocks(
        title="Croquis",
        fill_width=True,
        analytics_enabled=False,
        delete_cache=(_HOUR_S, _DAY_S),
    ) as blocks:
        gr.HTML(_header(), elem_id="top", apply_default_css=False)
        with gr.Column(elem_id="tab-create", elem_classes="tab"):
            create = build_create(studio, load_examples(ASSETS), blocks)
        with gr.Column(elem_id="tab-models", elem_classes="tab"):
            build_models(studio, create)
        build_generate(studio, blocks)
    return blocks


def build_head() -> str:
    """The page's style and scripts, inline: no request leaves the page for them."""
    styles, scripts = (
        "".join(f"<{tag}>{(ASSETS / name).read_text(encoding='utf-8')}</{tag}>" for name in names)
        for tag, names in (("style", STYLES), ("script", SCRIPTS))
    )
    return styles + scripts


def _header() -> str:
    rows = "".join(f"<dt><kbd>{key}</kbd></dt><dd>{does}</dd>" for key, does in _KEYS)
    tabs = "".join(f'<a href="{address}">{title}</a>' for title, address in TABS)
    return (
        f'<header><h1>Croquis</h1><nav aria-label="Pages">{tabs}</nav>'
        '<p id="connection" role="status"></p>'
        '<button type="button" class="quiet" id="keys-button" popovertarget="keys"'
        ' aria-label="Keys">?</button>'
        f'<div id="keys" popover><h2>Keys</h2><dl>{rows}</dl></div></header>'
    )
