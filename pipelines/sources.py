"""Where the files are that requests name: a visitor's own, or single files of the Hub."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import hub
from studio.adapters import SUFFIX, HubFile, UploadedFile
from studio.errors import InvalidRequest, ModelUnavailable
from studio.specs import LORA_FILE

if TYPE_CHECKING:
    from studio.adapter_files import AdapterFiles
    from studio.settings import Settings

USUAL_NAMES = (LORA_FILE, "learned_embeds.safetensors")
"""What diffusers' training scripts call a LoRA and an embedding."""

log = logging.getLogger(__name__)


class AdapterSources:
    """Finds files for one host."""

    def __init__(self, uploads: AdapterFiles, settings: Settings) -> None:
        self._uploads = uploads
        self._settings = settings

    def uploaded(self, file: UploadedFile, owner: str) -> tuple[Path, str]:
        """A visitor's own file, and what it was called; raises NotFound."""
        return self._uploads.find(file, owner)

    def fetched(self, file: HubFile, on_message: Callable[[str], None]) -> Path:
        """A file of the Hub, downloaded if it is not here; without a connection as it is.

        `on_message` is called several times a second; what it raises ends the fetching.

        Raises:
            ModelUnavailable: says what the Hub answered.
            InvalidRequest: the repository has no safetensors file.
        """
        from huggingface_hub.errors import HTTPError

        talk = hub._Talk(f"Looking for {file.repository}")
        pool = ThreadPoolExecutor(1, "fetch")
        fetching = pool.submit(_fetch, file, self._settings, talk)
        try:
            while wait([fetching], hub.POLL_S).not_done:
                on_message(talk.text)
            return fetching.result()
        except (OSError, HTTPError) as exc:
            log.warning("Could not fetch %s: %s", file, exc)
            raise ModelUnavailable(
                f"{file.repository} could not be downloaded: {hub._cause(exc)}. Check the name; a "
                f"gated one needs its licence accepted and `CROQUIS_HF_TOKEN`."
            ) from exc
        finally:
            talk.is_stopped = True
            pool.shutdown(wait=False)


def pick_file(names: Sequence[tuple[str, int]], repository: str) -> str:
    """The safetensors file that is meant by a repository: diffusers' name, or the largest.

    Args:
        names: files of the repository and their bytes.

    Raises:
        InvalidRequest: there is none.
    """
    weights = [(size, name) for name, size in names if name.endswith(SUFFIX)]
    usual = [name for _, name in weights if name in USUAL_NAMES]
    if not weights:
        raise InvalidRequest(
            f"{repository} has no {SUFFIX} file, and Croquis opens nothing else: pickle files can "
            f"run code. Look for another copy of it."
        )
    return usual[0] if usual else max(weights)[1]


def _fetch(file: HubFile, settings: Settings, talk: hub._Talk) -> Path:
    """One file; from the disk if the Hub does not answer."""
    from huggingface_hub import HfApi, constants, hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HTTPError,
        LocalEntryNotFoundError,
    )

    constants.DOWNLOAD_CHUNK_SIZE = hub.CHUNK_BYTES

    def download(name: str, *, local: bool) -> Path:
        return Path(
            hf_hub_download(
                file.repository,
                name,
                revision=file.commit,
                token=settings.hf_token,
                etag_timeout=hub.CONNECT_TIMEOUT_S,
                local_files_only=local,
                tqdm_class=hub._reporting_bar(f"Downloading {Path(name).name}", talk),
            )
        )

    try:
        if settings.offline:
            raise ConnectionError("`CROQUIS_OFFLINE` is set")
        info = HfApi(token=settings.hf_token).model_info(
            file.repository,
            revision=file.commit,
            files_metadata=True,
            timeout=hub.CONNECT_TIMEOUT_S,
        )
    except (OSError, HTTPError) as refusal:
        try:
            return download(file.file or _kept_name(file), local=True)
        except (LocalEntryNotFoundError, FileNotFoundError):
            raise refusal from None
    names = [(one.rfilename, one.size or 0) for one in info.siblings or []]
    name = file.file or pick_file(names, file.repository)
    try:
        return download(name, local=False)
    except EntryNotFoundError as exc:
        raise InvalidRequest(f"{file.repository} has no file “{name}”.") from exc


def _kept_name(file: HubFile) -> str:
    """What of a repository is on disk; raises FileNotFoundError."""
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(file.repository, revision=file.commit, local_files_only=True))
    kept = [(str(path.relative_to(folder)), path.stat().st_size) for path in folder.rglob("*.*")]
    names = [(name, size) for name, size in kept if name.endswith(SUFFIX)]
    if not names:
        raise FileNotFoundError(file.repository)
    return pick_file(names, file.repository)
