"""What a reader of one dialect found in a PNG, before anything is judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Found:
    """Raw values from outside, under our names."""

    dialect: str
    values: dict[str, object] = field(default_factory=dict)
    """Under the names of GenerationRequest's fields, and `sampler`, `schedule` and `size`
    ("768x512") where a program has those instead."""
    rest: dict[str, object] = field(default_factory=dict)
    """What has no place in a request, under the program's own names."""

    @classmethod
    def renamed(cls, dialect: str, values: Mapping[str, object], names: Mapping[str, str]) -> Found:
        """Sort values into known and unknown; `names` maps the program's names to ours."""
        known = {ours: values[theirs] for theirs, ours in names.items() if theirs in values}
        return cls(dialect, known, {key: values[key] for key in values if key not in names})


def parse_json(text: str | None) -> dict[str, Any]:
    """The object in a text, or an empty one if the text is no JSON object."""
    try:
        value = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
