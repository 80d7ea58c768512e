"""AUTOMATIC1111's text of a picture's settings: writing it and reading it.

    a red chair, oak floor
    Negative prompt: people
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 5, Size: 64x64

The prompt may span lines, the settings never do. A value that holds a comma, a colon or a
newline is written as a JSON string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from studio.request import GenerationRequest

_NEGATIVE = "Negative prompt:"
_LONGEST_SETTINGS = 65_536
_PAIR = re.compile(r'\s*(\w[\w \-/]{1,63}):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_FEWEST_PAIRS = 3


@dataclass(frozen=True, slots=True)
class Infotext:
    """The three parts of the text."""

    prompt: str
    negative_prompt: str
    pairs: Mapping[str, str]


def write_infotext(
    request: GenerationRequest, pairs: Mapping[str, str | int | float | None]
) -> str:
    """Join prompt, negative prompt and settings; pairs whose value is None are left out."""
    settings = ", ".join(
        key if key == str(value) else f"{key}: {_quoted(value)}"
        for key, value in pairs.items()
        if value is not None
    )
    negative = f"{_NEGATIVE} {request.negative_prompt}" if request.negative_prompt else ""
    return "\n".join(part for part in (request.prompt, negative, settings) if part).strip()


def parse_infotext(text: str) -> Infotext:
    """Take the text apart. A last line with fewer than three settings belongs to the prompt.

    Takes time in proportion to the text, whatever it holds.
    """
    lines = text.strip().split("\n")
    pairs = _parse_pairs(lines[-1])
    if len(pairs) >= _FEWEST_PAIRS:
        lines.pop()
    else:
        pairs = {}
    starts = [number for number, line in enumerate(lines) if line.strip().startswith(_NEGATIVE)]
    start = starts[0] if starts else len(lines)
    negative = "\n".join(lines[start:]).strip().removeprefix(_NEGATIVE)
    return Infotext("\n".join(lines[:start]).strip(), negative.strip(), pairs)


def _quoted(value: str | int | float) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value)
    if any(mark in text for mark in ",:\n"):
        return json.dumps(text, ensure_ascii=False)
    return text


def _parse_pairs(line: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    position = 0
    while position < min(len(line), _LONGEST_SETTINGS):
        found = _PAIR.match(line, position)
        if found:
            pairs[found[1].strip()] = _unquoted(found[2].strip())
            position = found.end()
        else:
            position = line.find(",", position) + 1 or len(line)
    return pairs


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        text = json.loads(value)
    except ValueError:
        return value
    return text if isinstance(text, str) else value
