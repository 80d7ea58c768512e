"""The sizes that the page offers, derived from a model's defaults and limits."""

from __future__ import annotations

import math
from dataclasses import dataclass

from studio.specs import ModelSpec

from ui import words

RATIOS = (
    ("Square", 1, 1),
    ("Portrait", 3, 4),
    ("Tall", 2, 3),
    ("Landscape", 4, 3),
    ("Wide", 3, 2),
)
"""Name, width and height parts of each aspect."""


@dataclass(frozen=True, slots=True)
class Size:
    """One choice of paper."""

    name: str
    width: int
    height: int

    @property
    def key(self) -> str:
        """What the radio buttons send: "64x88"."""
        return f"{self.width}x{self.height}"

    @property
    def label(self) -> str:
        """What the radio buttons show."""
        return f"{self.name} {words.size(self.width, self.height)}"


def sizes_of(model: ModelSpec) -> list[Size]:
    """One size per aspect with about the area of the model's default, inside its limits."""
    found: dict[tuple[int, int], Size] = {}
    for name, across, down in RATIOS:
        width, height = _fit(model, across / down)
        found.setdefault((width, height), Size(name, width, height))
    return list(found.values())


def key_of(model: ModelSpec, width: object, height: object) -> str | None:
    """The choice that stands for a size, or None when it is one of the visitor's own."""
    key = f"{width}x{height}"
    return key if any(size.key == key for size in sizes_of(model)) else None


def nearest(model: ModelSpec, width: object, height: object) -> Size:
    """The model's choice whose aspect is nearest to that of a size that it cannot draw."""
    wanted = math.log(_aspect(width, height))
    return min(sizes_of(model), key=lambda size: abs(math.log(size.width / size.height) - wanted))


def like(model: ModelSpec, width: int, height: int) -> tuple[int, int]:
    """The size that a model draws a picture of that aspect at; width and height in px."""
    return _fit(model, width / height)


def fits(model: ModelSpec, side: object) -> bool:
    """Whether the model draws pictures with such a side."""
    if not isinstance(side, int):
        return False
    return model.min_side <= side <= model.max_side and side % model.multiple_of == 0


def _aspect(width: object, height: object) -> float:
    """Width through height; 1 for what no picture has, such as an empty field."""
    sides = (width, height)
    if not all(isinstance(side, (int, float)) and 1 <= side <= 10**6 for side in sides):
        return 1.0
    return width / height  # type: ignore[operator,no-any-return]


def _fit(model: ModelSpec, ratio: float) -> tuple[int, int]:
    ratio = 1.0 if model.square else ratio
    area = model.defaults.width * model.defaults.height
    short = math.sqrt(area * min(ratio, 1 / ratio))
    short = max(short, model.min_side)
    long = short * max(ratio, 1 / ratio)
    if long > model.max_side:
        short, long = short * model.max_side / long, model.max_side
    sides = sorted(_round(model, side) for side in (short, long))
    return (sides[0], sides[1]) if ratio <= 1 else (sides[1], sides[0])


def _round(model: ModelSpec, side: float) -> int:
    whole = round(side / model.multiple_of) * model.multiple_of
    return min(max(whole, model.min_side), model.max_side)
