"""Brings files of one repository into the Hub's cache; what came before a break is kept.

The Hub's own client throws an unfinished file away, so that a break after 2 of 3 GB costs 2 GB.
Here it stays beside the finished ones as `blobs/<hash>.part`, and the next request asks for the
bytes behind it.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.errors import Cancelled
from studio.model_store import PART, cache_folder, repository_folder, size_text

WORKERS = 4
CONNECT_TIMEOUT_S = 5.0
CHUNK_BYTES = 2**18
RATE_OVER_S = 8.0
"""The rate is that of the last seconds."""
SHOWN_AFTER_S = 1.0


class Damaged(OSError):
    """What came is not what the Hub announced."""


@dataclass(slots=True)
class Stop:
    """Whether anybody still wants what a thread fetches."""

    is_set: bool = False


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a repository, as the Hub lists it."""

    name: str
    nbytes: int
    etag: str
    """Names it in the cache: SHA-256 of a large file, else git's hash."""
    is_large: bool
    """Kept outside of git, so that `etag` is its SHA-256."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """The files of one commit that a model needs."""

    repository: str
    commit: str
    files: Sequence[RemoteFile]
    token: str | None

    @property
    def nbytes(self) -> int:
        """Of all files."""
        return sum(file.nbytes for file in self.files)

    @property
    def arrived(self) -> int:
        """How many of these bytes are on disk, whoever fetched them."""
        return sum(self._arrived(file) for file in self.files)

    def run(self, stop: Stop) -> None:
        """Fetch what is missing, the small files first.

        Raises:
            Cancelled: `stop` was set.
            Damaged: a file is not what the Hub announced; it will be fetched anew.
            OSError, HTTPError: no connection, no right to it, or no room.
        """
        small = [file for file in self.files if not file.is_large]
        large = [file for file in self.files if file.is_large]
        with ThreadPoolExecutor(WORKERS, "transfer") as pool:
            for bring, files in ((self._bring_small, small), (self._bring_large, large)):
                started = [pool.submit(bring, file, stop) for file in files]
                try:
                    for done in as_completed(started):
                        done.result()
                except BaseException:
                    stop.is_set = True
                    raise

    def _bring_small(self, file: RemoteFile, stop: Stop) -> None:
        """Fetch a file at once, or enter one that came into the folder of the commit."""
        from huggingface_hub import hf_hub_download

        if stop.is_set:
            raise Cancelled("Stopped.")
        hf_hub_download(
            self.repository,
            file.name,
            revision=self.commit,
            token=self.token,
            etag_timeout=CONNECT_TIMEOUT_S,
            tqdm_class=_silent_bar(stop),
        )

    def _bring_large(self, file: RemoteFile, stop: Stop) -> None:
        """Fetch a file from where it broke off; one thread of this machine at a time."""
        from huggingface_hub.utils import WeakFileLock

        blob = self._blob(file)
        lock = cache_folder() / ".locks" / repository_folder(self.repository).name
        for folder in (lock, blob.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock / f"{file.etag}{PART}.lock"):
            if not blob.exists():
                self._continue(file, stop)
        self._bring_small(file, stop)

    def _continue(self, file: RemoteFile, stop: Stop) -> None:
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES  # from 10 MB: a stop is heeded at every chunk
        part = self._part(file)
        if part.exists() and part.stat().st_size > file.nbytes:
            part.unlink()
        with part.open("ab") as stream:
            http_get(
                hf_hub_url(self.repository, file.name, revision=self.commit),
                stream,
                resume_size=part.stat().st_size,
                headers=build_hf_headers(token=self.token),
                expected_size=file.nbytes,
                tqdm_class=_silent_bar(stop),
            )
        if _sha256(part) != file.etag:
            part.unlink()
            raise Damaged(f"{file.name} came damaged")
        part.replace(self._blob(file))

    def _blob(self, file: RemoteFile) -> Path:
        return repository_folder(self.repository) / "blobs" / file.etag

    def _part(self, file: RemoteFile) -> Path:
        return self._blob(file).with_name(file.etag + PART)

    def _arrived(self, file: RemoteFile) -> int:
        entered = repository_folder(self.repository) / "snapshots" / self.commit / file.name
        for path in (entered, self._blob(file)):
            if path.exists():
                return file.nbytes
        try:
            return min(self._part(file).stat().st_size, file.nbytes)
        except FileNotFoundError:
            return 0


@dataclass(slots=True)
class Meter:
    """Says in words how far a transfer is: bytes, rate, time left."""

    title: str
    transfer: Transfer
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def text(self) -> str:
        """What is shown now: "Downloading X, 1.2 GB of 2.6 GB, 11 MB/s, 2 min left"."""
        now, arrived = time.monotonic(), self.transfer.arrived
        self._seen.append((now, arrived))
        while self._seen[0][0] < now - RATE_OVER_S:
            self._seen.popleft()
        total = self.transfer.nbytes
        said = f"Downloading {self.title}, {size_text(arrived)} of {size_text(total)}"
        begun, before = self._seen[0]
        if now - begun < SHOWN_AFTER_S or arrived <= before:
            return said
        rate = (arrived - before) / (now - begun)
        return f"{said}, {size_text(rate)}/s, {_duration((total - arrived) / rate)} left"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _silent_bar(stop: Stop) -> type:
    """Return a tqdm class that draws nothing, and raises Cancelled when told to stop."""
    from tqdm import tqdm

    class SilentBar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)  # of the Hub's own bars
            super().__init__(*args, **{**kwargs, "file": io.StringIO(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            if stop.is_set:
                raise Cancelled("Stopped.")
            return super().update(n)

        def display(self, *args: Any, **kwargs: Any) -> bool:
            return True

    return SilentBar
