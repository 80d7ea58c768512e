"""Fetches checkpoints from the Hugging Face Hub: safetensors and small text files only."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipelines.refusals import refusal
from pipelines.transfer import CONNECT_TIMEOUT_S, Damaged, Meter, RemoteFile, Stop, Transfer
from studio.errors import ModelUnavailable, StorageFailed
from studio.model_files import INDEX, WEIGHTS, Unusable, missing_file, preferred, wanted_files
from studio.model_files import is_of as is_of
from studio.model_store import (
    cache_folder,
    find_file,
    find_folder,
    free_bytes,
    repository_folder,
    snapshot,
    split_file,
)
from studio.model_store import size_text as size_text
from studio.specs import LORA_FILE, split_source

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

    from studio.settings import Settings
    from studio.specs import ModelSpec

POLL_S = 0.2
SPARE_BYTES = 500_000_000
"""What a download leaves free on the disk: pictures and the database need room too."""
FULL = (errno.ENOSPC, errno.EDQUOT)

Found = TypeVar("Found")
OnMessage = Callable[[str], None]
Choose = Callable[[Sequence[str], str], Sequence[str]]
"""(names of a repository's files, content of its model_index.json or "") -> those wanted."""

log = logging.getLogger(__name__)


class Broken(OSError):
    """The connection was lost after bytes had come."""


@dataclass(slots=True)
class _Talk:
    """What a fetching thread says."""

    title: str
    meter: Meter | None = None
    stop: Stop = field(default_factory=Stop)

    def text(self) -> str:
        return self.meter.text() if self.meter else f"Looking for {self.title}"


def fetch(spec: ModelSpec, settings: Settings, on_message: OnMessage) -> tuple[Path, str]:
    """Return the folder of the first source that can be had, and "<repository>@<commit>".

    What is whole on disk is used as it is, without asking the network. What came of it before a
    break is not fetched again. `on_message` is called several times a second; what it raises ends
    the fetching.

    Raises:
        ModelUnavailable: names the three causes and what each source answered.
        StorageFailed: the disk has too little room for it.
    """
    held = find_folder(spec)
    if held is None:
        held = _first(
            spec.sources,
            spec.title,
            lambda source, talk: _fetch_model(source, spec, settings, talk),
            on_message,
        )
    source, folder = held
    return folder, f"{split_source(source)[0]}@{folder.name[:12]}"


def fetch_file(
    source: str, name: str, title: str, settings: Settings, on_message: OnMessage
) -> Path:
    """Return one safetensors file of a repository, such as a LoRA, downloaded if need be.

    Args:
        source: "owner/name" or "owner/name@commit".
        name: its path in the repository.
        title: what the visitor calls it.

    Raises:
        ModelUnavailable, StorageFailed: as `fetch`.
    """
    held = find_file(source, name)
    if held is not None:
        return held
    folder = fetch_chosen(source, lambda names, _: _only(name, names), title, settings, on_message)
    return folder / name


def fetch_chosen(
    source: str, choose: Choose, title: str, settings: Settings, on_message: OnMessage
) -> Path:
    """Fetch what `choose` picks of a source's files; return the folder of its commit.

    Raises:
        ModelUnavailable, StorageFailed: as `fetch`; besides what `choose` raises.
    """

    def fetch_one(source: str, talk: _Talk) -> Path:
        return _fetch(source, choose, settings, talk)

    return _first([source], title, fetch_one, on_message)[1]


def fetch_all(spec: ModelSpec, settings: Settings, on_message: OnMessage) -> None:
    """Fetch all that a model is drawn with: its checkpoint, its prior, its LoRA.

    Raises:
        ModelUnavailable, StorageFailed: as `fetch`.
    """
    folder, _ = fetch(spec, settings, on_message)
    if spec.prior_sources and not (folder / "prior" / INDEX).is_file():
        fetch(replace(spec, sources=spec.prior_sources), settings, on_message)
    if spec.hub_lora:
        fetch_file(*split_file(spec.hub_lora), spec.title, settings, on_message)


def weight_files(folder: Path, variant: str | None) -> list[Path]:
    """List the weight files that diffusers would load from `folder`, sorted; a LoRA is none."""
    parts = sorted({path.parent for path in folder.glob("*/*.safetensors")})
    return [path for part in parts for path in part_weights(part, variant)]


def part_weights(part: Path, variant: str | None) -> list[Path]:
    """List the weight files of one component: of the variant, where it has them, or the plain."""
    files = sorted(path for path in part.glob("*.safetensors") if path.name != LORA_FILE)
    return preferred(files, variant)


def _first(
    sources: Sequence[str],
    title: str,
    fetch_one: Callable[[str, _Talk], Found],
    on_message: OnMessage,
) -> tuple[str, Found]:
    """The first source that answers; a mirror is of no use once bytes have come."""
    from huggingface_hub.errors import HTTPError  # of the HTTP library that the Hub's client uses

    failures: dict[str, Exception] = {}
    for source in sources:
        try:
            return source, _aside(source, _Talk(title), fetch_one, on_message)
        except Broken as exc:
            raise ModelUnavailable(str(exc)) from exc
        except (OSError, HTTPError) as exc:
            if isinstance(exc, OSError) and exc.errno in FULL:
                raise StorageFailed(
                    f"The disk was full before all of {title} had come. What came is kept: make "
                    f"room, such as by deleting a model under Models, and try again; it goes on "
                    f"from there."
                ) from exc
            log.warning("Could not fetch %s: %s", source, exc)
            failures[source] = exc
    raise ModelUnavailable(refusal(title, failures))


def _aside(
    source: str, talk: _Talk, fetch_one: Callable[[str, _Talk], Found], on_message: OnMessage
) -> Found:
    """Fetch one source on a thread of its own: it may hear nothing for many seconds.

    A thread that is left alone ends at its next bytes, and the next fetch goes on from there.
    """
    pool = ThreadPoolExecutor(1, "fetch")
    fetching = pool.submit(fetch_one, source, talk)
    try:
        while wait([fetching], POLL_S).not_done:
            on_message(talk.text())
        on_message(talk.text())
    finally:
        talk.stop.is_set = True
        pool.shutdown(wait=False)
    return fetching.result()


def _fetch_model(source: str, spec: ModelSpec, settings: Settings, talk: _Talk) -> Path:
    """Fetch one source of a model, and see that nothing of it is missing."""
    folder = _fetch(source, lambda names, index: wanted_files(names, index, spec), settings, talk)
    lacking = missing_file(folder, spec)
    if lacking is not None:
        raise Unusable(f"lacks “{lacking}”")
    return folder


def _fetch(source: str, choose: Choose, settings: Settings, talk: _Talk) -> Path:
    """Bring what is chosen of a source's files; return the folder of its commit."""
    from huggingface_hub import HfApi, hf_hub_download

    if settings.offline:
        raise ConnectionError("`CROQUIS_OFFLINE` is set")
    repository, commit = split_source(source)
    token = settings.hf_token
    answer = HfApi(token=token).model_info(
        repository, revision=commit, timeout=CONNECT_TIMEOUT_S, files_metadata=True
    )
    listed = _listed(answer)
    index = ""
    if INDEX in listed:
        # The first file of a gated repository is refused; and it notes which commit is the newest.
        index = Path(
            hf_hub_download(
                repository, INDEX, revision=commit, token=token, etag_timeout=CONNECT_TIMEOUT_S
            )
        ).read_text(encoding="utf-8")
    chosen = [listed[name] for name in choose(list(listed), index)]
    transfer = Transfer(repository, answer.sha or commit or "", chosen, settings.hf_token)
    _check_room(transfer, talk.title)
    _run(transfer, talk)
    if commit is None:
        # What has no model_index.json would not be found again without a connection.
        newest = repository_folder(repository) / "refs" / "main"
        newest.parent.mkdir(parents=True, exist_ok=True)
        newest.write_text(transfer.commit, encoding="utf-8")
    return snapshot(f"{repository}@{transfer.commit}") or cache_folder()


def _listed(answer: ModelInfo) -> dict[str, RemoteFile]:
    """The files of a repository by their names."""
    return {
        one.rfilename: RemoteFile(
            name=one.rfilename,
            nbytes=one.size or 0,
            etag=one.lfs.sha256 if one.lfs else one.blob_id or "",
            is_large=one.lfs is not None,
        )
        for one in answer.siblings or []
    }


def _only(name: str, names: Sequence[str]) -> list[str]:
    """One file; raises Unusable if it is not there, or could run code."""
    if not name.endswith(WEIGHTS):
        raise Unusable(f"“{name}” is no {WEIGHTS} file, and Croquis opens nothing else")
    if name not in names:
        raise Unusable(f"has no file “{name}”")
    return [name]


def _check_room(transfer: Transfer, title: str) -> None:
    """Refuse to begin what the disk cannot hold; raises StorageFailed."""
    missing = transfer.nbytes - transfer.arrived
    free = free_bytes(cache_folder())
    if missing and missing + SPARE_BYTES > free:
        raise StorageFailed(
            f"{title} needs {size_text(missing)} more on the disk, besides "
            f"{size_text(SPARE_BYTES)} that stay free, but {size_text(free)} are free. Delete a "
            f"model under Models, or set `HF_HOME` to a folder on a larger disk. Nothing was "
            f"downloaded."
        )


def _run(transfer: Transfer, talk: _Talk) -> None:
    """Run a transfer, and say what a break means."""
    from huggingface_hub.errors import GatedRepoError, HTTPError

    before = transfer.arrived
    talk.meter = Meter(talk.title, transfer)
    try:
        transfer.run(talk.stop)
    except GatedRepoError:
        raise
    except (OSError, HTTPError) as exc:
        if isinstance(exc, Damaged):
            raise Broken(f"{talk.title}: {exc}. Try again: that file is fetched anew.") from exc
        is_full = isinstance(exc, OSError) and exc.errno in FULL
        if is_full or transfer.arrived == before:
            raise
        kept = f"{size_text(transfer.arrived)} of {size_text(transfer.nbytes)}"
        raise Broken(
            f"The connection was lost after {kept} of {talk.title}. These are kept: try again, and "
            f"it goes on from there."
        ) from exc
