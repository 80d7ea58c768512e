"""The two TOML files of models and schedulers, read into rows."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from os.path import normpath
from pathlib import Path

from studio.errors import InvalidRequest, UnknownScheduler
from studio.request import TILINGS
from studio.settings import ROOT
from studio.specs import Defaults, ModelSpec, SchedulerSpec
from studio.tables import build_row

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MODELS_TOML = ROOT / "assets" / "models.toml"
FAMILIES_TOML = ROOT / "assets" / "families.toml"
SCHEDULERS_TOML = ROOT / "assets" / "schedulers.toml"


def read_schedulers(path: Path) -> dict[str, SchedulerSpec]:
    """Return every scheduler of a file by its key.

    Raises:
        InvalidRequest: a table lacks a field, has one too many or of the wrong type.
    """
    return {key: _scheduler(key, table) for key, table in _read_toml(path)}


def read_models(path: Path, known: Mapping[str, SchedulerSpec]) -> dict[str, ModelSpec]:
    """Return every model of a file by its key.

    Raises:
        InvalidRequest: a table lacks a field, has one too many or of the wrong type, or
            names a folder outside this repository.
        UnknownScheduler: a table names a scheduler that is not `known`.
    """
    families = dict(_read_toml(FAMILIES_TOML))
    return {key: _model(key, table, families, known) for key, table in _read_toml(path)}


def _read_toml(path: Path) -> list[tuple[str, Mapping[str, object]]]:
    """Keys and tables of one file, in its order."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as exc:
        raise InvalidRequest(f"{path.name} is not valid TOML: {exc}") from exc
    for key, table in content.items():
        if not isinstance(table, dict):
            raise InvalidRequest(f"{path.name}: `{key}` must be a table, got {table!r}.")
    return list(content.items())


def _scheduler(key: str, table: Mapping[str, object]) -> SchedulerSpec:
    renamed = {"class_name" if name == "class" else name: value for name, value in table.items()}
    return build_row(SchedulerSpec, f"[{key}] of schedulers.toml", {**renamed, "key": key})


def _model(
    key: str,
    table: Mapping[str, object],
    families: Mapping[str, Mapping[str, object]],
    known: Mapping[str, SchedulerSpec],
) -> ModelSpec:
    place = f"[{key}] of models.toml"
    family = str(table.get("family"))
    if family not in families:
        raise InvalidRequest(f"{place}: `family` must be one of {', '.join(families)}.")
    defaults = table.get("defaults")
    if not isinstance(defaults, dict):
        raise InvalidRequest(f"{place} lacks the table `defaults`.")
    made = build_row(Defaults, f"[{key}.defaults] of models.toml", defaults)
    spec = build_row(ModelSpec, place, {**families[family], **table, "key": key, "defaults": made})
    for scheduler in (*spec.schedulers, made.scheduler):
        if scheduler not in known or scheduler not in spec.schedulers:
            raise UnknownScheduler(f"{place}: `schedulers` and {scheduler!r} do not agree.")
    if unknown := set(spec.tiling_choices) - set(TILINGS):
        raise InvalidRequest(f"{place}: `tiling_choices` has {unknown.pop()!r}, no tiling.")
    _check_folders(place, spec)
    return spec


def _check_folders(place: str, spec: ModelSpec) -> None:
    """Refuse a folder outside this repository, and a LoRA that a link leads out to.

    An absolute path would replace ROOT where the two are joined. A source may be a link: a host
    may keep the built-in model on another disk.
    """
    folders = [("sources", one, Path(normpath(ROOT / one))) for one in spec.sources]
    if spec.fused_lora:
        lora = (ROOT / spec.fused_lora).resolve()
        folders.append(("fused_lora", spec.fused_lora, lora))
    for name, said, folder in folders:
        if not folder.is_relative_to(ROOT):
            raise InvalidRequest(
                f"{place}: `{name}` must be inside this repository, got {said!r}. "
                "`CROQUIS_MODEL_PATHS` names the folder of a checkpoint elsewhere."
            )
