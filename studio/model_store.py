"""What is on disk of the models of the Hub, how large it is, and how it goes away again."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from studio.errors import InvalidRequest, StorageFailed
from studio.model_files import Unusable, missing_file
from studio.specs import ModelSpec, split_source

PART = ".part"
"""Ending of a file that has not come as a whole yet."""

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the Hub's cache has of one model."""

    nbytes: int
    """Bytes on disk of all repositories that it is loaded from."""
    is_whole: bool
    """Whether it could be loaded without the network."""


def stored(spec: ModelSpec) -> Stored:
    """Look what is on disk of a model."""
    nbytes = sum(size_of(repository) for repository in repositories(spec))
    return Stored(nbytes=nbytes, is_whole=bool(nbytes) and _is_whole(spec))


def find_folder(spec: ModelSpec) -> tuple[str, Path] | None:
    """The first of a model's sources that is whole on disk, and its folder."""
    for source in spec.sources:
        folder = snapshot(source)
        if folder is not None and _lacks(folder, spec) is None:
            return source, folder
    return None


def find_file(source: str, name: str) -> Path | None:
    """One file of a repository, if it is on disk."""
    folder = snapshot(source)
    if folder is None or Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    return folder / name if (folder / name).is_file() else None


def split_file(text: str) -> tuple[str, str]:
    """The repository and the file of "owner/name/folder/file.safetensors"."""
    owner, name, file = text.split("/", 2)
    return f"{owner}/{name}", file


def page_of(source: str) -> str:
    """The page of a source on the Hub, where its licence is accepted."""
    return f"https://huggingface.co/{split_source(source)[0]}"


def snapshot(source: str) -> Path | None:
    """The folder of a source's commit, whole or not; None if nothing of it is here."""
    repository, commit = split_source(source)
    if not _REPOSITORY.fullmatch(repository):
        return None
    root = repository_folder(repository)
    newest = root / "refs" / "main"
    if commit is None and newest.is_file():
        commit = newest.read_text(encoding="utf-8").strip()
    folder = root / "snapshots" / commit if commit else None
    return folder if folder is not None and folder.is_dir() else None


def repository_folder(repository: str) -> Path:
    """Where the Hub's cache keeps a repository."""
    return cache_folder() / f"models--{repository.replace('/', '--')}"


def cache_folder() -> Path:
    """The Hub's cache, which `HF_HOME` or `HF_HUB_CACHE` places."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def size_text(nbytes: float) -> str:
    """Write a number of bytes in GB, or in MB below a tenth of one."""
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.0f} MB"


def free_bytes(folder: Path) -> int:
    """Bytes that are free on the disk of a folder that need not exist yet."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(existing).free


def size_of(repository: str) -> int:
    """Bytes on disk of a repository, unfinished files and old commits included."""
    folder = repository_folder(repository)
    files = (path for path in folder.rglob("*") if not path.is_symlink() and path.is_file())
    return sum(path.stat().st_size for path in files)


def repositories(spec: ModelSpec) -> tuple[str, ...]:
    """The repositories of the Hub that a model may be loaded from."""
    if spec.folder is not None:
        return ()
    sources = [*spec.sources, *spec.prior_sources]
    if spec.hub_lora:
        sources.append(split_file(spec.hub_lora)[0])
    names = (split_source(source)[0] for source in sources)
    return tuple(dict.fromkeys(name for name in names if _REPOSITORY.fullmatch(name)))


def own_repositories(spec: ModelSpec, models: Iterable[ModelSpec]) -> tuple[str, ...]:
    """Those that go away with a model: what a model with fewer uses too is that one's.

    SDXL's files are not those of a LoRA upon it.
    """
    mine = {*repositories(spec)}
    smaller = [{*repositories(other)} for other in models if {*repositories(other)} < mine]
    lent = set().union(*smaller)
    return tuple(name for name in repositories(spec) if name not in lent)


def sharing(spec: ModelSpec, models: Iterable[ModelSpec]) -> list[ModelSpec]:
    """The other models that cannot be drawn with once a model's own repositories are gone."""
    rows = list(models)
    gone = {*own_repositories(spec, rows)}
    return [other for other in rows if other.key != spec.key and gone & {*repositories(other)}]


def delete(spec: ModelSpec, models: Iterable[ModelSpec]) -> int:
    """Remove a model's own repositories from the disk; return how many bytes that frees.

    Raises:
        InvalidRequest: nothing of it is there.
        StorageFailed: the disk refuses.
    """
    gone = [name for name in own_repositories(spec, models) if repository_folder(name).is_dir()]
    if not gone:
        raise InvalidRequest(f"Nothing of {spec.title} is on this machine's disk.")
    freed = sum(size_of(name) for name in gone)
    try:
        for name in gone:
            shutil.rmtree(repository_folder(name))
            shutil.rmtree(cache_folder() / ".locks" / repository_folder(name).name, True)
    except OSError as exc:
        raise StorageFailed(
            f"The files of {spec.title} could not be deleted: {exc.strerror}. Delete the folder "
            f"“{repository_folder(name).name}” of the Hub's cache by hand."
        ) from exc
    return freed


def _is_whole(spec: ModelSpec) -> bool:
    found = find_folder(spec)
    if found is None:
        return False
    lora = split_file(spec.hub_lora) if spec.hub_lora else None
    has_lora = lora is None or find_file(*lora) is not None
    return has_lora and (_has_prior(spec, found[1]) or not spec.prior_sources)


def _has_prior(spec: ModelSpec, folder: Path) -> bool:
    priors = [snapshot(source) for source in spec.prior_sources]
    places = [*priors, folder / "prior"]
    return any(place is not None and _lacks(place, spec) is None for place in places)


def _lacks(folder: Path, spec: ModelSpec) -> str | None:
    try:
        return missing_file(folder, spec)
    except Unusable as exc:
        return str(exc)
