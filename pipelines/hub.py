"""Fetches checkpoints from the Hugging Face Hub: safetensors and small text files only."""

from __future__ import annotations

import errno
import functools
import io
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from studio.errors import Cancelled, ModelUnavailable
from studio.specs import LORA_FILE, TEXT_ENCODER, split_source

if TYPE_CHECKING:
    from studio.settings import Settings
    from studio.specs import ModelSpec

CHUNK_BYTES = 2**18
CONNECT_TIMEOUT_S = 5.0
POLL_S = 0.2
TEXT_FILES = ["model_index.json", "*/*.json", "*/*.txt", "*/*.model"]

AnyPath = TypeVar("AnyPath", bound=PurePath)

log = logging.getLogger(__name__)


class NoSafetensors(OSError):
    """A repository has its weights only in formats that can run code when they are opened."""


@dataclass(slots=True)
class _Talk:
    """What a fetching thread says, and whether anybody still wants what it fetches."""

    text: str
    is_stopped: bool = False


def fetch(
    spec: ModelSpec, settings: Settings, on_message: Callable[[str], None]
) -> tuple[Path, str]:
    """Return the folder of the first source that can be had, and "<repository>@<commit>".

    What is on disk already is not fetched again; without a connection it is used as it is.
    `on_message` is called several times a second; what it raises ends the fetching.

    Raises:
        ModelUnavailable: names the three causes and what each source answered.
    """
    from huggingface_hub.errors import HTTPError  # of the HTTP library that the Hub's client uses

    failures = []
    for source in spec.sources:
        try:
            folder = _fetch_aside(source, spec, settings, on_message)
            return folder, f"{split_source(source)[0]}@{folder.name[:12]}"
        except (OSError, HTTPError) as exc:
            log.warning("Could not fetch %s: %s", source, exc)
            failures.append(f"{source}: {_cause(exc)}")
    raise ModelUnavailable(
        f"{spec.title} is not on this machine and could not be downloaded. Either it was removed "
        f"from the Hub, or it is gated (accept its licence there and set `CROQUIS_HF_TOKEN`), or "
        f"there is no connection. Tried {'; '.join(failures)}."
    )


def weight_files(folder: Path, variant: str | None) -> list[Path]:
    """List the weight files that diffusers would load from `folder`, sorted; a LoRA is none."""
    parts = sorted({path.parent for path in folder.glob("*/*.safetensors")})
    return [path for part in parts for path in part_weights(part, variant)]


def part_weights(part: Path, variant: str | None) -> list[Path]:
    """List the weight files of one component: of the variant, where it has them, or the plain."""
    files = sorted(path for path in part.glob("*.safetensors") if path.name != LORA_FILE)
    return _preferred(files, variant)


def is_of(path: PurePath, variant: str | None) -> bool:
    """Whether a weight file is of that variant."""
    return variant is not None and f".{variant}" in path.name


def _preferred(files: list[AnyPath], variant: str | None) -> list[AnyPath]:
    """Of the files of one component, those of the variant, or the plain ones if it has none."""
    of_variant = [path for path in files if is_of(path, variant)]
    return of_variant or [path for path in files if path.name.count(".") == 1]


def size_text(nbytes: float) -> str:
    """Write a number of bytes in GB, or in MB below a tenth of one."""
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.0f} MB"


def _fetch_aside(
    source: str, spec: ModelSpec, settings: Settings, on_message: Callable[[str], None]
) -> Path:
    """Fetch one source on a thread of its own: it may hear nothing for many seconds.

    A thread that is left alone ends at its next bytes, and the next fetch goes on from there.
    """
    talk = _Talk(f"Looking for {spec.title}")
    pool = ThreadPoolExecutor(1, "fetch")
    fetching = pool.submit(_fetch_source, source, spec, settings, talk)
    try:
        while wait([fetching], POLL_S).not_done:
            on_message(talk.text)
        on_message(talk.text)
    finally:
        talk.is_stopped = True
        pool.shutdown(wait=False)
    return fetching.result()


def _fetch_source(source: str, spec: ModelSpec, settings: Settings, talk: _Talk) -> Path:
    """Return the folder of one source, downloaded as far as it is not on disk."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError

    repository, commit = split_source(source)
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES  # from 10 MB: news come with every chunk
    download = functools.partial(
        snapshot_download,
        repository,
        revision=commit,
        token=settings.hf_token,
        etag_timeout=CONNECT_TIMEOUT_S,
        tqdm_class=_reporting_bar(f"Downloading {spec.title}", talk),
    )
    try:
        if settings.offline:
            raise ConnectionError("`CROQUIS_OFFLINE` is set")
        api = HfApi(token=settings.hf_token)
        info = api.model_info(repository, revision=commit, timeout=CONNECT_TIMEOUT_S)
    except (OSError, HTTPError) as refusal:
        try:
            kept = _wanted_on_disk(repository, commit, spec)
            return Path(download(local_files_only=True, allow_patterns=kept))
        except LocalEntryNotFoundError:
            raise refusal from None
    names = [sibling.rfilename for sibling in info.siblings or []]
    return Path(download(allow_patterns=[*TEXT_FILES, *wanted_weights(names, spec)]))


def _wanted_on_disk(repository: str, commit: str | None, spec: ModelSpec) -> list[str] | None:
    """What must be on disk of a repository; None if what it has was not kept in mind there."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        files = get_cached_repo_tree(repository, revision=commit)
    except CachedRepoTreeNotFoundError:
        return None
    return [*TEXT_FILES, *wanted_weights([file.path for file in files], spec)]


def wanted_weights(names: Sequence[str], spec: ModelSpec) -> list[str]:
    """Which files of a repository are the weights that the model is loaded from.

    Of each component the preferred variant, or the plain ones where it has no such: in DeepFloyd
    IF's repositories the safety checker and the watermark have only these.

    Raises:
        NoSafetensors: there are none.
    """
    parts: dict[str, list[PurePosixPath]] = {}
    for path in map(PurePosixPath, names):
        is_unread = path.parent.name == TEXT_ENCODER and not spec.reads_itself
        if len(path.parts) == 2 and path.suffix == ".safetensors" and not is_unread:
            parts.setdefault(path.parts[0], []).append(path)
    wanted = [str(path) for files in parts.values() for path in _preferred(files, spec.variant)]
    if not wanted:
        raise NoSafetensors
    return sorted(wanted)


def _reporting_bar(activity: str, talk: _Talk) -> type:
    """Return a tqdm class that reports the bytes in words instead of drawing a bar."""
    from tqdm import tqdm

    class ReportingBar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)  # of the Hub's own bars
            super().__init__(*args, **{**kwargs, "file": io.StringIO(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            if talk.is_stopped:
                raise Cancelled("Stopped.")
            return super().update(n)

        def display(self, *args: Any, **kwargs: Any) -> bool:
            if self.unit == "B" and self.total:
                talk.text = f"{activity}, {size_text(self.n)} of {size_text(self.total)}"
            return True

    return ReportingBar


def _cause(error: Exception) -> str:
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, NoSafetensors):
        return "has no safetensors, and Croquis opens nothing else"
    if isinstance(error, GatedRepoError):
        return "gated"
    if isinstance(error, RepositoryNotFoundError):
        return "removed, or private"
    if isinstance(error, RevisionNotFoundError):
        return "this revision was removed"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full"
    return "no connection"
