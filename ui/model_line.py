"""The line under the choice of model: what it is good at, who may use it, what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from studio.catalogue import Availability
from studio.specs import ModelSpec

_USE = {
    "no": "non-commercial",
    "conditional": "use under conditions",
    "unknown": "commercial use unknown",
}
"""What is said of a licence besides its name."""
_ACCESS = {
    "yes": "asks for a token and an accepted licence",
    "unknown": "may ask for a token and an accepted licence",
}
"""What the Hub asks for before a download."""
_UNCONFIRMED = {
    "licence": "licence",
    "commercial_use": "commercial use",
    "sources": "address",
    "hub_lora": "address of its LoRA",
    "defaults": "settings",
}
"""Fields whose values are shown, or used, as they are: the line names those not confirmed. Of
others it says "about" or "may"."""


def render_model(model: ModelSpec, availability: Availability) -> str:
    """One line: what the model is good at, its licence, what it takes, where it stands."""
    facts = ", ".join(_facts(model, availability))
    note = f", {escape(availability.note)}" if availability.note else ""
    return (
        f'<p><span class="summary">{escape(model.summary)}. </span>{facts}, '
        f'<strong class="{availability.state}">{escape(availability.label)}</strong>{note}'
        f"{_render_doubt(model)}</p>"
    )


def _facts(model: ModelSpec, availability: Availability) -> Iterator[str]:
    if model.status == "experimental":
        yield "experimental"
    yield (
        f'<a href="{escape(model.licence_url)}" target="_blank" rel="noopener">'
        f"{escape(model.licence)}</a>"
    )
    if model.commercial_use in _USE:
        yield _USE[model.commercial_use]
    if model.backend == "hosted":
        return
    about = "about " if "memory_gb" in model.uncertain else ""
    yield f"{about}{model.memory_gb:g} GB of memory"
    if availability.state in ("download", "partial") and model.gated in _ACCESS:
        yield _ACCESS[model.gated]


def _render_doubt(model: ModelSpec) -> str:
    doubted = [text for name, text in _UNCONFIRMED.items() if name in model.uncertain]
    if model.backend == "hosted" and "hosted" in model.uncertain:
        doubted.append("that a provider offers it")
    return f". Not confirmed: {', '.join(doubted)}." if doubted else ""
