"""Which files of a checkpoint in diffusers' layout its pipeline needs, told from their names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import TypeVar

from studio.specs import TEXT_ENCODER, ModelSpec

INDEX = "model_index.json"
"""The file that names the components; each has a folder of its own."""
WEIGHTS = ".safetensors"
PICKLES = (".bin", ".ckpt", ".pt", ".pth")
"""What can run code when it is opened."""
TEXTS = (".json", ".txt", ".model", ".jinja", ".tiktoken")
"""Configs, and whatever tokenizers keep beside theirs."""

_SHARD = re.compile(r"-\d{5}-of-\d{5}")

AnyPath = TypeVar("AnyPath", bound=PurePath)


class Unusable(OSError):
    """A repository or a folder cannot be loaded; the text says what it has or lacks."""


def is_of(path: PurePath, variant: str | None) -> bool:
    """Whether a weight file is of that variant."""
    return variant is not None and f".{variant}" in path.name


def preferred(files: Sequence[AnyPath], variant: str | None) -> list[AnyPath]:
    """Of the weight files of one component, those of the variant, or else the plain ones.

    In DeepFloyd IF's repositories the safety checker and the watermark have only these. Where the
    same weights are there whole and in shards, diffusers reads the shards.
    """
    of_variant = [path for path in files if is_of(path, variant)]
    found = of_variant or [path for path in files if path.name.count(".") == 1]
    return [path for path in found if _SHARD.search(path.name)] or found


def components(index: str) -> set[str]:
    """The components that a `model_index.json` names; raises Unusable if it is none."""
    try:
        named = json.loads(index)
        return {
            name
            for name, place in named.items()
            if isinstance(place, list) and len(place) == 2 and place[0] is not None
        }
    except (ValueError, AttributeError) as exc:
        raise Unusable(f"has no valid {INDEX}") from exc


def wanted_files(names: Sequence[str], index: str, spec: ModelSpec) -> list[str]:
    """Which of a repository's files a model is loaded from: of each component the best weights.

    Left out are single files of all weights, other variants, formats of other libraries, code,
    and folders that no component names.

    Args:
        names: all files of the repository.
        index: content of its `model_index.json`.

    Raises:
        Unusable: a component has its weights only in pickle files, or not at all.
    """
    if spec.files:
        if lacking := sorted(set(spec.files) - set(names)):
            raise Unusable(f"lacks “{lacking[0]}”")
        return list(spec.files)
    parts: dict[str, list[PurePosixPath]] = {part: [] for part in components(index)}
    for path in map(PurePosixPath, names):
        if len(path.parts) > 1 and path.parts[0] in parts:
            parts[path.parts[0]].append(path)
    wanted = [INDEX]
    for part, paths in sorted(parts.items()):
        wanted += [str(path) for path in paths if path.suffix in TEXTS]
        if not _is_unread(part, spec):
            wanted += map(str, _weights(part, paths, spec.variant))
    return wanted


def missing_file(folder: Path, spec: ModelSpec) -> str | None:
    """The first file that a checkpoint on disk lacks, as a path in it; None if it is whole."""
    if not (folder / INDEX).is_file():
        missing = [name for name in spec.files if not (folder / name).is_file()]
        return INDEX if not spec.files else next(iter(missing), None)
    for part in sorted(components((folder / INDEX).read_text(encoding="utf-8"))):
        here = [path for path in (folder / part).glob("*") if path.is_file()]
        if not here:
            return f"{part}/"
        if _is_unread(part, spec):
            continue
        try:
            found = {path.name for path in _weights(part, here, spec.variant)}
        except Unusable:
            return f"{part}/*{WEIGHTS}"
        if lacking := sorted(_shards(here, found) - found):
            return f"{part}/{lacking[0]}"
    return None


def _is_unread(part: str, spec: ModelSpec) -> bool:
    """Whether another model reads the prompts, so that this text encoder stays away."""
    return part == TEXT_ENCODER and not spec.reads_itself


def _weights(part: str, paths: Sequence[AnyPath], variant: str | None) -> list[AnyPath]:
    """The weight files of one component; [] if it has none, as a scheduler."""
    own = [path for path in paths if path.suffix == WEIGHTS]
    found = sorted(preferred(own, variant))
    if found:
        return found
    if any(path.suffix in PICKLES for path in paths):
        raise Unusable(f"has “{part}” only in pickle files, which can run code; Croquis opens none")
    if any(path.name == "config.json" for path in paths):
        raise Unusable(f"lacks the weights of “{part}”")
    return []


def _shards(here: Sequence[Path], found: set[str]) -> set[str]:
    """The shards that the component's index of them lists; empty if its weights are one file."""
    if not any(_SHARD.search(name) for name in found):
        return set()
    for path in here:
        if path.name.endswith(f"{WEIGHTS}.index.json"):
            listed = _weight_map(path)
            if found & listed:
                return listed
    return set()


def _weight_map(path: Path) -> set[str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return set()
    table = content.get("weight_map") if isinstance(content, Mapping) else None
    return set(table.values()) if isinstance(table, Mapping) else set()
