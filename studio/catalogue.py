"""The models and schedulers that Croquis knows: look-ups, limits, and where a model stands."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from studio.added_models import read_added, write_added
from studio.catalogue_files import read_models, read_schedulers
from studio.controls import read_controls
from studio.errors import InvalidRequest, UnknownModel, UnknownScheduler
from studio.hosting import hosted_rows
from studio.limits import check_limits
from studio.model_store import size_text, stored
from studio.prompt_syntax import is_read_by
from studio.request import GenerationRequest
from studio.settings import ROOT, Settings
from studio.specs import ModelSpec, SchedulerSpec, split_source

NOTICED_BYTES = 10_000_000
"""Below this only configs are on disk, as of a model that was looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Where a model stands, for the page."""

    state: Literal["loaded", "loading", "ready", "local", "partial", "download", "missing"]
    label: str
    note: str = ""
    """What to know before a click: how it is held, how long a picture takes."""


class Catalogue:
    """Look-ups in the two tables, and the rules that depend on the model."""

    def __init__(
        self,
        models: Mapping[str, ModelSpec],
        schedulers: Mapping[str, SchedulerSpec],
        settings: Settings,
    ) -> None:
        self.models = dict(models)
        self.schedulers = dict(schedulers)
        self._settings = settings

    @classmethod
    def load(cls, models_toml: Path, schedulers_toml: Path, settings: Settings) -> Catalogue:
        """Read both files; leave out schedulers whose package is not installed.

        Raises:
            InvalidRequest: a table lacks a field, has one too many or of the wrong type.
        """
        known = read_schedulers(schedulers_toml)
        models = read_models(models_toml, known)
        models |= read_added(settings.data_dir, models)
        if settings.provider:
            models |= hosted_rows(models)
        paths = {*settings.model_paths} - read_controls().keys()
        for key in (settings.model, *sorted(paths)):
            if key not in models:
                raise UnknownModel(f"The settings name the model {key!r}. {_choices(models)}")
        return cls(models, {k: s for k, s in known.items() if _installed(s)}, settings)

    def add(self, spec: ModelSpec) -> None:
        """Know one more model, and remember it."""
        added = {key: row for key, row in self.models.items() if row.is_added}
        write_added(self._settings.data_dir, {**added, spec.key: spec})
        self.models = {**self.models, spec.key: spec}

    def forget(self, key: str) -> None:
        """Forget a model that was added; raises UnknownModel, InvalidRequest for another."""
        if not self.get_model(key).is_added:
            raise InvalidRequest("Only models that were added here can be taken off the list.")
        left = {name: row for name, row in self.models.items() if name != key}
        write_added(self._settings.data_dir, {k: row for k, row in left.items() if row.is_added})
        self.models = left

    def get_model(self, key: str) -> ModelSpec:
        """Look a model up; raises UnknownModel with the known keys."""
        if not isinstance(key, str) or key not in self.models:
            raise UnknownModel(f"There is no model {str(key)[:80]!r}. {_choices(self.models)}")
        return self.models[key]

    def find_model(self, name: str) -> ModelSpec | None:
        """The first row that is called so: a key, title, Hub id or file, folders left out."""
        named = Path(name.strip().replace("\\", "/")).name.lower()
        named = named.removesuffix(".safetensors").removesuffix(".ckpt")
        return next((row for row in self.models.values() if named in _names(row)), None)

    def get_scheduler(self, key: str) -> SchedulerSpec:
        """Look a scheduler up; raises UnknownScheduler with the known keys."""
        if not isinstance(key, str) or key not in self.schedulers:
            raise UnknownScheduler(
                f"There is no scheduler {str(key)[:80]!r}. {_choices(self.schedulers)}"
            )
        return self.schedulers[key]

    def schedulers_of(self, model_key: str) -> dict[str, SchedulerSpec]:
        """The schedulers that work with a model here, in the model's order."""
        usable = self.get_model(model_key).schedulers
        return {key: self.schedulers[key] for key in usable if key in self.schedulers}

    def default_request(self, model_key: str, prompt: str) -> GenerationRequest:
        """A request with the model's own defaults."""
        defaults = self.get_model(model_key).defaults
        values = {spec.name: getattr(defaults, spec.name) for spec in fields(defaults)}
        syntax = "a1111" if is_read_by(self.get_model(model_key)) else "plain"
        return GenerationRequest(prompt=prompt, prompt_syntax=syntax, model=model_key, **values)

    def check(self, request: GenerationRequest) -> None:
        """Hold a request against its model's limits.

        Raises:
            InvalidRequest: a size, a number of images, an enlargement or a tiling is outside them.
            UnknownModel, UnknownScheduler: no such key, or the two do not go together.
        """
        spec = self.get_model(request.model)
        self.get_scheduler(request.scheduler)
        if request.scheduler not in spec.schedulers:
            raise UnknownScheduler(
                f"{spec.title} does not work with {request.scheduler!r}. "
                f"{_choices(self.schedulers_of(spec.key))}"
            )
        check_limits(spec, request)

    def availability(self, key: str, states: Mapping[str, str] | None = None) -> Availability:
        """Where a model stands. `states` is what the engine last reported of each model."""
        spec = self.get_model(key)
        if spec.backend == "hosted":
            return Availability(state="ready", label=f"drawn at {self._settings.provider}")
        reported = (states or {}).get(key)
        if reported == "loaded":
            return Availability(state="loaded", label="ready")
        if reported == "loading":
            return Availability(state="loading", label="loading")
        lacking = [name for name in spec.requires if importlib.util.find_spec(name) is None]
        if lacking:
            return Availability(state="missing", label=f"needs the Python package {lacking[0]}")
        if spec.lora_file is not None and not spec.lora_file.is_file():
            return Availability(state="missing", label="files are missing")
        folder = spec.local_path(self._settings)
        if folder is not None:
            return _local_availability(folder)
        return _hub_availability(spec)


def _names(spec: ModelSpec) -> set[str]:
    """What a row is called, in small letters and without owners."""
    repositories = (split_source(source)[0] for source in (*spec.sources, *spec.also_called))
    return {
        spec.key,
        spec.title.lower(),
        *(name.rpartition("/")[2].lower() for name in repositories),
    }


def _hub_availability(spec: ModelSpec) -> Availability:
    here = stored(spec)
    if here.is_whole:
        return Availability(state="local", label="on disk")
    if not spec.download_gb:
        return Availability(state="missing", label="files are missing")
    if here.nbytes >= NOTICED_BYTES:
        label = f"{size_text(here.nbytes)} of about {spec.download_gb:g} GB on disk"
        return Availability(state="partial", label=label)
    about = "about " if "download_gb" in spec.uncertain else ""
    return Availability(state="download", label=f"download {about}{spec.download_gb:g} GB")


def _local_availability(folder: Path) -> Availability:
    if not (folder / "model_index.json").is_file():
        return Availability(state="missing", label="files are missing")
    if folder.is_relative_to(ROOT):
        return Availability(state="ready", label="ready")
    return Availability(state="local", label="on disk")


def _choices(table: Mapping[str, object]) -> str:
    return f"Choose one of: {', '.join(table)}."


def _installed(spec: SchedulerSpec) -> bool:
    return spec.requires is None or importlib.util.find_spec(spec.requires) is not None
