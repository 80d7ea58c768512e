"""What a visitor may do with the models of this machine: download, delete, add, take off."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.catalogue import Availability
from studio.downloads import Download
from studio.errors import InvalidRequest
from studio.model_store import (
    cache_folder,
    delete,
    free_bytes,
    own_repositories,
    repositories,
    sharing,
    size_of,
)
from studio.specs import ModelSpec

if TYPE_CHECKING:
    from studio.studio import Studio

IN_USE = ("loaded", "loading")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelfRow:
    """One model as the Models tab shows it."""

    spec: ModelSpec
    availability: Availability
    nbytes: int
    """On disk, of all repositories that it is loaded from."""
    freed: int
    """Of these what would go away with it."""
    sharing: tuple[str, ...]
    """Titles of the models on disk that would go away with it."""
    lacks: tuple[str, ...]
    """Python packages that it needs and this machine has not."""
    download: Download | None

    @property
    def is_here(self) -> bool:
        """Whether it can be drawn with at once, or part of it is on disk."""
        return self.availability.state not in ("download", "missing")

    @property
    def is_downloading(self) -> bool:
        """Whether a download of it waits or runs."""
        return self.download is not None and self.download.is_active

    @property
    def can_download(self) -> bool:
        """Whether there is something left to download."""
        state = self.availability.state
        return not self.is_downloading and state in ("download", "partial") and not self.lacks

    @property
    def can_delete(self) -> bool:
        """Whether there is something to delete, and nobody needs it now."""
        is_used = self.is_downloading or self.availability.state in IN_USE
        return bool(self.freed) and not is_used


class ModelShelf:
    """The models of a studio; every change asks first whether visitors may make it."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    @property
    def is_open(self) -> bool:
        """Whether visitors may change what is on this machine."""
        return self._studio.settings.lets_manage_models

    def rows(self) -> list[ShelfRow]:
        """All models of the catalogue but those that another machine draws with."""
        models = self._studio.catalogue.models.values()
        return [self._row(spec) for spec in models if spec.backend != "hosted"]

    @property
    def has_token(self) -> bool:
        """Whether the Hub is asked with a token: the setting's, or the host's own login."""
        from huggingface_hub import get_token

        return bool(self._studio.settings.hf_token or get_token())

    def taken_bytes(self) -> int:
        """What the models of the Hub take on the disk."""
        models = self._studio.catalogue.models.values()
        return sum(map(size_of, {name for spec in models for name in repositories(spec)}))

    def free_bytes(self) -> int:
        """Room that is left on the disk of the models."""
        return free_bytes(cache_folder())

    def download(self, key: str) -> None:
        """Fetch a model soon.

        Raises:
            InvalidRequest: visitors may not, or there is nothing to fetch.
            UnknownModel: no such key.
        """
        self.check_open()
        row = self._row(self._studio.catalogue.get_model(key))
        if self._studio.settings.offline:
            raise InvalidRequest("Nothing is downloaded here: `CROQUIS_OFFLINE` is set.")
        if not row.can_download:
            raise InvalidRequest(f"There is nothing to download of {row.spec.title} now.")
        self._studio.downloads.ask(key)

    def stop(self, key: str) -> None:
        """Stop a download; what came of it is kept. Raises InvalidRequest: visitors may not."""
        self.check_open()
        self._studio.downloads.stop(key)

    def delete(self, key: str) -> int:
        """Remove a model from the disk; return how many bytes that frees.

        Raises:
            InvalidRequest: visitors may not, it is built in, in memory or being downloaded.
            UnknownModel: no such key.
            StorageFailed: the disk refuses.
        """
        self.check_open()
        catalogue = self._studio.catalogue
        spec = catalogue.get_model(key)
        own = {*own_repositories(spec, catalogue.models.values())}
        for other in catalogue.models.values():
            if own & {*repositories(other)} and self._is_needed(other.key):
                raise InvalidRequest(
                    f"{other.title} is in memory or being downloaded, so its files stay. Stop the "
                    f"download, or draw with another model first."
                )
        freed = delete(spec, catalogue.models.values())
        self._studio.downloads.forget(key)
        return freed

    def add(self, typed: str) -> str:
        """Know a model by its Hub id or its folder; return its key. See `Studio.add_model`."""
        return self._studio.add_model(typed)

    def forget(self, key: str) -> None:
        """Take a model off the list that was added here; its files stay until deleted."""
        self.check_open()
        if self._is_needed(key):
            raise InvalidRequest("This model is in memory or being downloaded: try again later.")
        self._studio.catalogue.forget(key)

    def check_open(self) -> None:
        """Refuse visitors of a server whose host keeps its models; raises InvalidRequest."""
        if not self.is_open:
            raise InvalidRequest(
                "The models of this server are its host's affair. A host sets "
                "`CROQUIS_MODEL_ADMIN=1` to let visitors change them."
            )

    def _is_needed(self, key: str) -> bool:
        download = self._studio.downloads.of(key)
        is_active = download is not None and download.is_active
        return is_active or self._studio.availability(key).state in IN_USE

    def _row(self, spec: ModelSpec) -> ShelfRow:
        models = list(self._studio.catalogue.models.values())
        availability = self._studio.availability(spec.key)
        own = own_repositories(spec, models) if spec.folder is None else ()
        freed = sum(map(size_of, own))
        also = [other.title for other in sharing(spec, models)] if freed else []
        return ShelfRow(
            spec=spec,
            availability=availability,
            nbytes=sum(map(size_of, repositories(spec))),
            freed=freed,
            sharing=tuple(also),
            lacks=tuple(name for name in spec.requires if not importlib.util.find_spec(name)),
            download=self._studio.downloads.of(spec.key),
        )
