"""From the text in a PNG to fields of a request: every rule kept, nothing bent silently."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from studio.catalogue import Catalogue
from studio.dialects import find_settings
from studio.errors import InvalidRequest
from studio.found import Found
from studio.ingredients import PARTS
from studio.pngtext import read_text_chunks
from studio.recipes import OWN_CHUNK
from studio.request import RANDOM_SEED, GenerationRequest
from studio.samplers import find_scheduler

Value = str | int | float

_OWN_IS_BROKEN = "The recipe of Croquis in this picture is damaged; other text was read instead."
_MOST_UNMAPPED = 64
_LONGEST_SHOWN = 500
_SIZE = re.compile(r"\D{0,2}(\d{1,6})\D{1,3}(\d{1,6})\D{0,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRecipe:
    """What was found in a PNG."""

    dialect: str
    """Who wrote it, such as "Croquis" or "AUTOMATIC1111"."""
    fields: Mapping[str, Value] = field(default_factory=dict)
    """Fields of GenerationRequest that were found, each within its range."""
    unmapped: Mapping[str, str] = field(default_factory=dict)
    """What was found and has no field here."""
    warnings: tuple[str, ...] = ()
    """What the visitor should know, such as a scheduler that is not here."""
    request: GenerationRequest | None = None
    """Holds the parts that were found (a start, LoRAs and the like); its words and numbers are
    those of `fields` only where the parts depend on them. None if no parts were found."""


def read_recipe(png: Path | bytes, catalogue: Catalogue) -> ReadRecipe:
    """The settings in a PNG of Croquis or of another program.

    Raises:
        InvalidRequest: it is no PNG, too large, broken, or carries no settings.
    """
    chunks = read_text_chunks(png)
    found = find_settings(chunks)
    result = _Reading(found, catalogue).result() if found else None
    if result is None or not (result.fields or result.warnings):
        raise InvalidRequest("This picture carries no settings that Croquis can read.")
    if OWN_CHUNK in chunks and result.dialect != "Croquis":
        result = replace(result, warnings=(_OWN_IS_BROKEN, *result.warnings))
    return result


class _Reading:
    """One mapping in progress: what is accepted so far, and what there is to say about it."""

    def __init__(self, found: Found, catalogue: Catalogue) -> None:
        self._found = found
        self._catalogue = catalogue
        self._values: dict[str, Value] = {}
        self._accepted: dict[str, Value] = {}
        self._unmapped = dict(found.rest)
        self._warnings: list[str] = []

    def result(self) -> ReadRecipe:
        """Map everything."""
        request = self._take_parts()
        self._pick_plain()
        self._split_size()
        self._find_model()
        self._find_scheduler()
        for name, raw in self._values.items():
            self._accept(name, raw)
        self._fit_to_model()
        return ReadRecipe(
            dialect=self._found.dialect,
            fields=self._accepted,
            unmapped=_texts(self._unmapped),
            warnings=tuple(warning[:_LONGEST_SHOWN] for warning in self._warnings),
            request=request,
        )

    def _take_parts(self) -> GenerationRequest | None:
        """The parts of our own recipe: whole, or none of them with a word on why."""
        found = self._found.values if self._found.dialect == "Croquis" else {}
        parts: dict[str, object] = {name: found[name] for name in _PARTS if name in found}
        if not parts:
            return None
        size = ("width", "height")
        sides: dict[str, object] = {name: found[name] for name in size if name in found}
        try:
            return GenerationRequest.from_json({**_PROBE.to_json(), **sides, **parts})
        except (InvalidRequest, TypeError, AttributeError, ValueError) as exc:
            self._warnings.append(f"What it starts from and adds cannot be read: {exc}"[:200])
            return None

    def _pick_plain(self) -> None:
        """Only text and numbers can be a setting; an empty text is none, but for one field."""
        for name, raw in self._found.values.items():
            if name in _PARTS:
                continue
            if isinstance(raw, (list, dict)):
                self._warnings.append(f"`{name}` cannot be read: it is a {type(raw).__name__}.")
            elif isinstance(raw, (str, int, float)) and (raw != "" or name == "negative_prompt"):
                self._values[name] = raw

    def _split_size(self) -> None:
        """`768x512` or `(768, 512)` -> width and height."""
        raw = self._values.pop("size", None)
        if raw is None:
            return
        sides = _SIZE.fullmatch(str(raw)[:30])
        if sides:
            self._values |= {"width": sides[1], "height": sides[2]}
        else:
            self._leave("size", raw, f"The size {_short(raw)} cannot be read.")

    def _find_model(self) -> None:
        raw = self._values.pop("model", None)
        if raw is None:
            return
        found = self._catalogue.find_model(str(raw))
        if found is not None:
            self._values["model"] = found.key
            return
        self._leave("model", raw, f"The model {_short(raw)} is not here; another one will differ.")

    def _find_scheduler(self) -> None:
        key = self._values.get("scheduler")
        if key is not None and key not in self._catalogue.schedulers:
            del self._values["scheduler"]
            self._leave("scheduler", key, f"The scheduler {_short(key)} is not here.")
        sampler = str(self._values.pop("sampler", ""))
        schedule = str(self._values.pop("schedule", ""))
        if sampler:
            self._translate(sampler, schedule)

    def _translate(self, sampler: str, schedule: str) -> None:
        """Find our scheduler for another program's sampler and schedule type."""
        shown = f"{sampler} {schedule}".strip()
        model = self._values.get("model")
        known = self._catalogue.schedulers
        if isinstance(model, str) and model in self._catalogue.models:
            known = self._catalogue.schedulers_of(model) or known
        key, is_exact = find_scheduler(known, sampler, schedule)
        if key is None:
            self._leave("sampler", shown, f"The scheduler {_short(shown)} is not here.")
            return
        self._values["scheduler"] = key
        if not is_exact:
            label = self._catalogue.schedulers[key].label
            self._warnings.append(f"The scheduler {_short(shown)} is not here; {label} is near it.")

    def _accept(self, name: str, raw: Value) -> None:
        """Take one value if GenerationRequest would take it."""
        try:
            value = _CONVERTERS[name](raw)
            replace(_PROBE, **{name: value})  # type: ignore[arg-type]
        except InvalidRequest as exc:
            self._leave(name, raw, str(exc))
        except (ValueError, OverflowError, TypeError):
            self._leave(name, raw, f"`{name}` cannot be read: {_short(raw)}.")
        else:
            if (name, value) != ("seed", RANDOM_SEED):
                self._accepted[name] = value

    def _fit_to_model(self) -> None:
        """Leave out what the model that was found cannot do."""
        model = self._accepted.get("model")
        if not isinstance(model, str):
            return
        default = self._catalogue.default_request(model, "any")
        for name in _CHECKED_BY_MODEL:
            value = self._accepted.get(name)
            if value is None:
                continue
            try:
                self._catalogue.check(replace(default, **{name: value}))  # type: ignore[arg-type]
            except InvalidRequest as exc:
                del self._accepted[name]
                self._leave(name, value, str(exc))

    def _leave(self, name: str, raw: Value, warning: str) -> None:
        self._unmapped[name] = raw
        self._warnings.append(warning)


def _whole(raw: Value) -> int:
    if isinstance(raw, bool):
        raise TypeError
    if isinstance(raw, float) and not raw.is_integer():
        raise ValueError
    return int(raw)


def _number(raw: Value) -> float:
    if isinstance(raw, bool):
        raise TypeError
    return float(raw)


def _text(raw: Value) -> str:
    if not isinstance(raw, str):
        raise TypeError
    return raw


_CONVERTERS: dict[str, Callable[[Value], Value]] = {
    "prompt": _text,
    "negative_prompt": _text,
    "model": _text,
    "scheduler": _text,
    "num_inference_steps": _whole,
    "guidance_scale": _number,
    "width": _whole,
    "height": _whole,
    "seed": _whole,
    "num_images": _whole,
    "upscale": _whole,
    "tiling": _text,
    "prompt_syntax": _text,
}
_PARTS = (*PARTS, "loras", "embeddings", "refiner", "exact")
_CHECKED_BY_MODEL = ("scheduler", "width", "height", "num_images", "upscale", "tiling")

_PROBE = GenerationRequest(
    prompt="any",
    model="any",
    scheduler="any",
    num_inference_steps=1,
    guidance_scale=1.0,
    width=64,
    height=64,
)
"""A valid request, in which one found value after the other is tried."""


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    """What is worth showing of foreign values: short plain ones, not too many."""
    plain = {
        name[:_LONGEST_SHOWN]: str(value)[:_LONGEST_SHOWN]
        for name, value in values.items()
        if isinstance(value, (str, int, float)) and not name.startswith("__")
    }
    return dict(list(plain.items())[:_MOST_UNMAPPED])


def _short(raw: Value) -> str:
    """A value from outside, quoted, for a message."""
    return repr(raw[:80] if isinstance(raw, str) else raw)
