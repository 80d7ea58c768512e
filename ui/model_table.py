"""The Models tab as HTML: what is on this machine, what can be fetched, how far a download is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from studio.downloads import Download
from studio.model_shelf import IN_USE, ShelfRow
from studio.model_store import page_of, size_text

from ui import words

HEADS = ("Model", "Licence", "Size", "State", "")
_USE = {
    "yes": "commercial use allowed",
    "no": "non-commercial use only",
    "conditional": "commercial use under conditions",
    "unknown": "commercial use unclear",
}
_STATES = {"loaded": "in memory", "download": "to be downloaded"}
"""States of which the table says it shorter: the size has a column of its own."""
_UNITS = {"MB": 1e6, "GB": 1e9}
_PAGE = re.compile(r"https://huggingface\.co/[\w.-]+/[\w.-]*\w")
_SHARE = re.compile(r"([\d.]+) (MB|GB) of ([\d.]+) (MB|GB)")


def render_head(taken: int, free: int, *, is_open: bool, is_offline: bool) -> str:
    """The heading, what the models take on the disk in bytes, and who may change that."""
    on_disk = f"{size_text(taken)} of downloaded models" if taken else "No downloaded models"
    text = f"{on_disk} on this machine's disk, {size_text(free)} free."
    if not is_open:
        text += " The host of this server downloads and deletes them."
    elif is_offline:
        text += " Nothing is downloaded here: the host set CROQUIS_OFFLINE."
    return f"<h2>Models</h2><p>{text}</p>"


def render_downloads(active: Sequence[Download], titles: dict[str, str]) -> str:
    """How far the download that runs is, and how many wait; "" if there is none."""
    if not active:
        return ""
    running = active[0]
    said = running.message or f"Looking for {titles.get(running.model, running.model)}"
    waiting = len(active) - 1
    behind = f" {words.count(waiting, 'model')} waiting." if waiting else ""
    return (
        f'<div class="progress" data-say="{escape(said)}"><progress max="1" '
        f'value="{share_of(running.message):.3f}" aria-label="Download"></progress>'
        f'<p><span class="numbers">{escape(said)}.{behind}</span>'
        f"{words.button('stop_download', 'Stop download', value=running.model)}</p></div>"
    )


def share_of(message: str) -> float:
    """How much of a download has come, 0 to 1, as its message says."""
    match = _SHARE.search(message)
    if match is None:
        return 0.0
    total = float(match[3]) * _UNITS[match[4]]
    return min(1.0, float(match[1]) * _UNITS[match[2]] / total) if total else 0.0


def render_table(rows: Iterable[ShelfRow], *, is_open: bool, has_token: bool) -> str:
    """All models, those on this machine first; `is_open` says whether buttons change anything."""
    listed = list(rows)
    here = [row for row in listed if row.is_here or row.is_downloading]
    there = [row for row in listed if row not in here]
    heads = "".join(
        f'<th scope="col" role="columnheader">{head or "<span class=sr-only>Actions</span>"}</th>'
        for head in HEADS
    )
    groups = (("On this machine", here), ("To download", there))
    bodies = "".join(
        _render_group(title, group, is_open, has_token) for title, group in groups if group
    )
    return (
        f'<table class="models" role="table"><caption class="sr-only">Models</caption>'
        f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead>{bodies}</table>'
    )


def _render_group(title: str, rows: Sequence[ShelfRow], is_open: bool, has_token: bool) -> str:
    body = "".join(_render_row(row, is_open, has_token) for row in rows)
    return (
        f'<tbody role="rowgroup"><tr role="row" class="group"><th colspan="{len(HEADS)}" '
        f'scope="rowgroup" role="rowheader">{title} <span>{len(rows)}</span></th></tr>'
        f"{body}</tbody>"
    )


def _render_row(row: ShelfRow, is_open: bool, has_token: bool) -> str:
    cells = (
        ("Licence", _render_licence(row, has_token)),
        ("Size", _render_size(row)),
        ("State", _render_state(row)),
        ("", _render_buttons(row, is_open)),
    )
    rest = "".join(f'<td role="cell" data-head="{head}">{cell}</td>' for head, cell in cells)
    return (
        f'<tr role="row" data-model="{escape(row.spec.key)}"><th scope="row" role="rowheader">'
        f"<strong>{escape(row.spec.title)}</strong><p>{escape(row.spec.summary)}.</p></th>{rest}</tr>"
        f"{_render_failure(row)}"
    )


def _render_failure(row: ShelfRow) -> str:
    """Why the last download failed, across the whole table; "" if it did not."""
    if row.download is None or row.download.state != "failed":
        return ""
    why = escape(words.plain(row.download.message))
    return (
        f'<tr role="row" class="why" data-of="{escape(row.spec.key)}">'
        f'<td role="cell" colspan="{len(HEADS)}"><p class="failed">{_linked(why)}</p></td></tr>'
    )


def _render_licence(row: ShelfRow, has_token: bool) -> str:
    spec = row.spec
    licence = escape(spec.licence)
    if spec.licence_url:
        licence = _link(spec.licence_url, spec.licence)
    lines = [licence, f"<small>{_USE.get(spec.commercial_use, spec.commercial_use)}</small>"]
    if spec.gated != "no" and row.availability.state in ("download", "partial"):
        lines.append(f"<small>{_render_gate(row, has_token)}</small>")
    return "".join(f"<p>{line}</p>" for line in lines)


def _render_gate(row: ShelfRow, has_token: bool) -> str:
    """That the Hub asks to accept the licence first, where, and whether there is a token."""
    asks = "must" if row.spec.gated == "yes" else "may have to"
    accept = _link(page_of(row.spec.sources[0]), "accepted at the Hub")
    token = "a token is set" if has_token else "no token is set (CROQUIS_HF_TOKEN)"
    return f"{asks} be {accept}; {token}"


def _render_size(row: ShelfRow) -> str:
    if not row.spec.download_gb:
        return f"<p>{'the host’s folder' if row.spec.folder else 'part of Croquis'}</p>"
    about = "about " if "download_gb" in row.spec.uncertain else ""
    text = f"<p>{about}{row.spec.download_gb:g} GB</p>"
    if row.nbytes >= 1e6 and not row.is_downloading:
        text += f"<p><small>{size_text(row.nbytes)} on disk</small></p>"
    return text


def _render_state(row: ShelfRow) -> str:
    download, state = row.download, row.availability.state
    if download is not None and download.is_active:
        said = "downloading" if download.state == "running" else "waiting to be downloaded"
        return f'<p class="state {download.state}">{said}</p>'
    label = _STATES.get(state, row.availability.label)
    lines = [f'<p class="state {state}">{escape(label)}</p>']
    if row.lacks:
        lines.append(f"<p><small>needs the package {escape(', '.join(row.lacks))}</small></p>")
    if download is not None and download.state == "stopped" and row.can_download:
        lines.append("<p><small>stopped; what came is kept</small></p>")
    return "".join(lines)


def _render_buttons(row: ShelfRow, is_open: bool) -> str:
    key, title = row.spec.key, row.spec.title
    made = []
    if row.availability.state != "missing":
        made.append(_named("choose", "Use", key, title))
    if is_open and row.is_downloading:
        made.append(_named("stop_download", "Stop", key, title))
    if is_open and row.can_download:
        again = row.availability.state == "partial"
        made.append(_named("download", "Download the rest" if again else "Download", key, title))
    if is_open and row.can_delete:
        made.append(_render_delete(row))
    if is_open and row.freed and row.availability.state in IN_USE:
        made.append("<small>in use, so it cannot be deleted</small>")
    if is_open and row.spec.is_added:
        made.append(_named("forget", "Take off the list", key, title))
    return f'<div class="does">{"".join(made)}</div>'


def _render_delete(row: ShelfRow) -> str:
    """Two clicks: a download cannot be undone as a picture can."""
    also = f" {escape(', '.join(row.sharing))} would go too." if row.sharing else ""
    sure = _named("delete_model", f"Delete {size_text(row.freed)}", row.spec.key, row.spec.title)
    return (
        '<details name="sure"><summary class="quiet"><span class="ask">Delete</span>'
        f'<span class="keep">Keep</span><span class="sr-only"> {escape(row.spec.title)}</span>'
        f'</summary><div class="sure"><p>It would have to be downloaded again.{also}</p>{sure}'
        "</div></details>"
    )


def _named(event: str, text: str, key: str, title: str) -> str:
    """A button whose name tells a screen reader of which model it is."""
    plain = words.button(event, text, value=key)
    label = f'<span class="sr-only"> {escape(title)}</span></button>'
    return plain.replace("</button>", label)


def _linked(text: str) -> str:
    """A text that is HTML already, with the Hub's addresses in it as links."""
    return _PAGE.sub(lambda found: _link(found[0], found[0]), text)


def _link(url: str, text: str) -> str:
    return f'<a href="{escape(url)}" target="_blank" rel="noopener">{escape(text)}</a>'
