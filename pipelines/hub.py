"""Fetches checkpoints from the Hugging Face Hub: safetensors and small text files only."""

from __future__ import annotations

import errno
import functools
import io
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import Cancelled, ModelUnavailable
from studio.specs import LORA_FILE, split_source

if TYPE_CHECKING:
    from studio.settings import Settings
    from studio.specs import ModelSpec

CHUNK_BYTES = 2**18
CONNECT_TIMEOUT_S = 5.0
POLL_S = 0.2
PICKLES = ["*.bin", "*.ckpt", "*.pt", "*.pth"]
TEXT_FILES = ["model_index.json", "*/*.json", "*/*.txt", "*/*.model"]

log = logging.getLogger(__name__)


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
    files = sorted(path for path in folder.glob("*/*.safetensors") if path.name != LORA_FILE)
    if variant is None:
        return [path for path in files if path.name.count(".") == 1]
    return [path for path in files if f".{variant}" in path.name]


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
    weights = f"*/*.{spec.variant}*" if spec.variant else "*/*.safetensors"
    download = functools.partial(
        snapshot_download,
        repository,
        revision=commit,
        allow_patterns=[*TEXT_FILES, weights],
        ignore_patterns=[*PICKLES, *([] if spec.variant else ["*.*.safetensors"])],
        token=settings.hf_token,
        etag_timeout=CONNECT_TIMEOUT_S,
        tqdm_class=_reporting_bar(f"Downloading {spec.title}", talk),
    )
    try:
        if settings.offline:
            raise ConnectionError("`CROQUIS_OFFLINE` is set")
        api = HfApi(token=settings.hf_token)
        api.model_info(repository, revision=commit, timeout=CONNECT_TIMEOUT_S)
    except (OSError, HTTPError) as refusal:
        try:
            return Path(download(local_files_only=True))
        except LocalEntryNotFoundError:
            raise refusal from None
    return Path(download())


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

    if isinstance(error, GatedRepoError):
        return "gated"
    if isinstance(error, RepositoryNotFoundError):
        return "removed, or private"
    if isinstance(error, RevisionNotFoundError):
        return "this revision was removed"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full"
    return "no connection"
