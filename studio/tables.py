"""One TOML table -> one frozen dataclass, every field named, present and of its type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, TypeVar

from studio.errors import InvalidRequest

_Row = TypeVar("_Row")


def build_row(kind: type[_Row], place: str, values: Mapping[str, object]) -> _Row:
    """Build a dataclass from a table.

    Raises:
        InvalidRequest: names the table (`place`) and the field that is wrong.
    """
    known: dict[str, Field[Any]] = {spec.name: spec for spec in fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise InvalidRequest(f"{place} has the unknown field `{name}`.")
    for name, spec in known.items():
        required = spec.default is MISSING and spec.default_factory is MISSING
        if required and name not in values:
            raise InvalidRequest(f"{place} lacks the field `{name}`.")
    typed = {
        name: _typed(place, name, str(known[name].type), value) for name, value in values.items()
    }
    return kind(**typed)


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str,),
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float),
    "bool": (bool,),
    "tuple[str, ...]": (list,),
    "tuple[int, ...]": (list,),
    "Mapping[str, str | int | float | bool]": (dict,),
}
_ITEMS: dict[str, type] = {"tuple[str, ...]": str, "tuple[int, ...]": int}


def _typed(place: str, name: str, wanted: str, value: object) -> Any:
    """The value as the field wants it: a TOML list becomes a tuple, a row stays itself."""
    if is_dataclass(value):
        return value
    right = isinstance(value, _TYPES[wanted]) and isinstance(value, bool) == (wanted == "bool")
    if right and isinstance(value, list):
        right = bool(value) and all(isinstance(item, _ITEMS[wanted]) for item in value)
    if not right:
        raise InvalidRequest(f"{place}: `{name}` must be {wanted}, got {value!r}.")
    return tuple(value) if isinstance(value, list) else value
