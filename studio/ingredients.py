"""What a request may name besides words and numbers: pictures, and files that change the model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Any, TypeVar

from studio.errors import InvalidRequest

TASKS = (
    "text_to_image",
    "image_to_image",
    "inpainting",
    "outpainting",
    "depth_to_image",
    "upscaling",
    "text_to_3d",
    "image_to_3d",
)
"""What a model can do. All but those from text start from a picture."""
START_TASKS = tuple(task for task in TASKS if not task.startswith("text_"))
CONTROLS = ("canny", "line", "depth", "segmentation")
MAX_SOURCE_CHARACTERS = 300
MAX_MARGIN = 1024

_PICTURE = re.compile(r"[0-9a-f]{32}|input-[0-9a-f]{64}")
_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The picture that a request starts from instead of noise alone."""

    task: str
    """One of START_TASKS."""
    picture: str
    """Id of a kept picture, or "input-" and the SHA-256 of an uploaded one."""
    strength: float = 0.6
    """How much of it may change: above 0, at most 1 (drawn anew)."""
    mask: str | None = None
    """For inpainting: a picture of the same size, white where it is drawn anew."""
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)
    """For outpainting: px added on the left, above, on the right, below."""

    def __post_init__(self) -> None:
        if self.task not in START_TASKS:
            raise InvalidRequest(
                f"`task` must be one of {', '.join(START_TASKS)}, got {shortened(self.task)}."
            )
        check_picture("picture", self.picture)
        check_number("strength", self.strength, 0.01, 1.0)
        if self.mask is not None:
            check_picture("mask", self.mask)
        if self.task == "inpainting" and self.mask is None:
            raise InvalidRequest("Paint over what is to be drawn anew: the mask is empty.")
        _check_margins(self.margins)
        if self.task == "outpainting" and not any(self.margins):
            raise InvalidRequest("Choose at least one side to extend.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Small weights that are added to a model's own for one request."""

    source: str
    """"owner/name" or "owner/name/file.safetensors" of the Hub, or "input-" and the SHA-256 of
    an uploaded file."""
    weight: float = 1.0
    """How much of them, -2 to 2; 0 is none."""

    def __post_init__(self) -> None:
        check_source("LoRA", self.source)
        check_number("weight", self.weight, -2.0, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A picture whose edges, lines, depth or areas the drawing follows (ControlNet)."""

    kind: str
    """One of CONTROLS."""
    picture: str
    weight: float = 1.0
    """0 (none) to 2."""
    is_ready: bool = False
    """Whether the picture shows edges, lines, depth or areas already."""

    def __post_init__(self) -> None:
        if self.kind not in CONTROLS:
            raise InvalidRequest(
                f"`kind` must be one of {', '.join(CONTROLS)}, got {shortened(self.kind)}."
            )
        check_picture("picture", self.picture)
        check_number("weight", self.weight, 0.0, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A picture whose subject and style the drawing takes over (IP-Adapter)."""

    picture: str
    weight: float = 0.6
    """0 (none) to 1."""

    def __post_init__(self) -> None:
        check_picture("picture", self.picture)
        check_number("weight", self.weight, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondPass:
    """The finished drawing, enlarged and drawn over ("hires fix")."""

    scale: float = 2.0
    """Times as wide and as high, 1 to 4."""
    strength: float = 0.5
    """How much of it may change: above 0, at most 1."""

    def __post_init__(self) -> None:
        check_number("scale", self.scale, 1.0, 4.0)
        check_number("strength", self.strength, 0.01, 1.0)


PARTS: Mapping[str, type[Any]] = {
    "start": Start,
    "control": Control,
    "reference": Reference,
    "second_pass": SecondPass,
}
"""Fields of a request that hold one of these."""


def part_from_json(kind: type[_Part], values: Mapping[str, Any]) -> _Part:
    """Build one of these from plain values; JSON knows no tuples."""
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def check_picture(name: str, value: object) -> None:
    """Refuse what is no picture's id; raises InvalidRequest."""
    if not is_picture_id(value):
        raise InvalidRequest(f"`{name}` must be the id of a picture, got {shortened(value)}.")


def is_picture_id(value: object) -> bool:
    """Whether a value names a kept picture or one that was brought; it need not be here."""
    return isinstance(value, str) and _PICTURE.fullmatch(value) is not None


def check_source(name: str, value: object) -> None:
    """Refuse what can be no Hub id and no uploaded file; raises InvalidRequest."""
    is_text = isinstance(value, str) and value.strip() and value.isprintable()
    if not is_text or len(str(value)) > MAX_SOURCE_CHARACTERS:
        raise InvalidRequest(
            f"A {name} must be a name such as owner/name of the Hub or an uploaded file, got "
            f"{shortened(value)}."
        )


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Refuse what is no number from `low` to `high`; raises InvalidRequest."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # type: ignore[operator]
        raise InvalidRequest(
            f"`{name}` must be between {low:g} and {high:g}, got {shortened(value)}."
        )


def _check_margins(margins: object) -> None:
    sides = margins if isinstance(margins, tuple) else ()
    if len(sides) != 4 or not all(_is_margin(side) for side in sides):
        raise InvalidRequest(
            f"`margins` must be four multiples of 8 from 0 to {MAX_MARGIN} px, got "
            f"{shortened(margins)}."
        )


def _is_margin(side: object) -> bool:
    return type(side) is int and 0 <= side <= MAX_MARGIN and side % 8 == 0
