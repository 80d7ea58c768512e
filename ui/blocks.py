"""The whole page: its head, its tabs (so far Create alone) and its look."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from studio.studio import Studio

from ui.create import build_create
from ui.examples import load_examples
from ui.generate import build_generate
from ui.theme import build_theme

__all__ = ["build_blocks", "build_head", "build_theme"]

ASSETS = Path(__file__).resolve().parent.parent / "assets"

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
        build_create(studio, load_examples(ASSETS), blocks)
        build_generate(studio, blocks)
    return blocks


def build_head() -> str:
    """The page's style and scripts, inline: no request leaves the page for them."""
    style = (ASSETS / "page.css").read_text(encoding="utf-8")
    scripts = [(ASSETS / name).read_text(encoding="utf-8") for name in ("form.js", "page.js")]
    return f"<style>{style}</style>" + "".join(f"<script>{script}</script>" for script in scripts)


def _header() -> str:
    rows = "".join(f"<dt><kbd>{key}</kbd></dt><dd>{does}</dd>" for key, does in _KEYS)
    return (
        '<header><h1>Croquis</h1><p id="connection" role="status"></p>'
        '<button type="button" class="quiet" id="keys-button" popovertarget="keys"'
        ' aria-label="Keys">?</button>'
        f'<div id="keys" popover><h2>Keys</h2><dl>{rows}</dl></div></header>'
    )
