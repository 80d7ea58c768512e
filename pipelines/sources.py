"""Where the files are that requests name: a visitor's own, or single files of the Hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import hub
from studio.adapters import SUFFIX, HubFile, UploadedFile
from studio.errors import InvalidRequest
from studio.model_store import find_file, snapshot
from studio.specs import LORA_FILE

if TYPE_CHECKING:
    from studio.adapter_files import AdapterFiles
    from studio.settings import Settings

USUAL_NAMES = (LORA_FILE, "learned_embeds.safetensors")
"""What diffusers' training scripts call a LoRA and an embedding."""


class AdapterSources:
    """Finds files for one host."""

    def __init__(self, uploads: AdapterFiles, settings: Settings) -> None:
        self._uploads = uploads
        # A stranger must not read what the host's token opens.
        lent = settings.lets_manage_models
        self._settings = settings if lent else replace(settings, hf_token=None)

    def uploaded(self, file: UploadedFile, owner: str) -> tuple[Path, str]:
        """A visitor's own file, and what it was called; raises NotFound."""
        return self._uploads.find(file, owner)

    def fetched(self, file: HubFile, on_message: Callable[[str], None]) -> Path:
        """A file of the Hub, downloaded if it is not here.

        `on_message` is called several times a second; what it raises ends the fetching.

        Raises:
            ModelUnavailable: says what the Hub answered.
            StorageFailed: the disk is full.
            InvalidRequest: the repository has no such file, or no safetensors file.
        """
        source = f"{file.repository}@{file.commit}" if file.commit else file.repository
        held = _held(source, file.file, self._settings.offline)
        if held is not None:
            return held
        chosen: list[str] = []

        def choose(names: Sequence[str], index: str) -> Sequence[str]:
            chosen[:] = [_chosen(file, names)]
            return chosen

        title = Path(file.file).name if file.file else file.repository
        return hub.fetch_chosen(source, choose, title, self._settings, on_message) / chosen[0]


def pick_file(names: Sequence[str], repository: str) -> str:
    """The safetensors file that is meant by a repository: its only one, or diffusers' name.

    Raises:
        InvalidRequest: there is none, or one must be chosen.
    """
    weights = [name for name in names if name.endswith(SUFFIX)]
    usual = [name for name in weights if name in USUAL_NAMES]
    if not weights:
        raise InvalidRequest(
            f"{repository} has no {SUFFIX} file, and Croquis opens nothing else: pickle files can "
            f"run code. Look for another copy of it."
        )
    if not usual and len(weights) > 1:
        some = ", ".join(f"{repository}/{name}" for name in weights[:8])
        raise InvalidRequest(f"{repository} has {len(weights)} files. Choose one, such as {some}.")
    return (usual or weights)[0]


def _chosen(file: HubFile, names: Sequence[str]) -> str:
    name = file.file or pick_file(names, file.repository)
    if name not in names:
        raise InvalidRequest(f"{file.repository} has no file “{name}”.")
    return name


def _held(source: str, name: str | None, offline: bool) -> Path | None:
    """The file, if it is on disk and certainly the one that is meant.

    Which file a repository means, the Hub is asked: another visitor may have fetched another one.
    """
    if name is not None:
        return find_file(source, name)
    usual = (find_file(source, one) for one in USUAL_NAMES)
    if found := next((path for path in usual if path is not None), None):
        return found
    if not offline:
        return None
    folder = snapshot(source)
    kept = folder.rglob(f"*{SUFFIX}") if folder is not None else ()
    paths = {str(path.relative_to(folder)): path for path in kept}  # type: ignore[arg-type]
    return paths[pick_file(list(paths), source)] if paths else None
