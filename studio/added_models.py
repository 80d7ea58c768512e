"""Models that a host adds by typing a Hub id or a folder: their rows, made and remembered.

data/models.json    one object per model, with the fields of a table in models.toml
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from studio.errors import InvalidRequest, ModelUnavailable
from studio.files import disk_errors, write_atomically
from studio.model_card import SMALL_FILES, ModelCard, read_card
from studio.model_files import INDEX
from studio.settings import Settings
from studio.specs import Defaults, ModelSpec, split_source

FILE = "models.json"
TIMEOUT_S = 10.0
GUESSED = (
    "summary",
    "commercial_use",
    "defaults",
    "schedulers",
    "memory_gb",
    "min_side",
    "max_side",
)
"""Fields of an added row that come from its family, not from its card."""

_log = logging.getLogger(__name__)
_SOURCE = re.compile(r"[\w][\w.-]*/[\w.-]+(@[0-9a-f]{7,40})?")
_SPECIAL = ("turbo", "lightning", "lcm", "hyper", "schnell", "sprint", "inpaint", "depth", "base")
"""Words in a name that tell of other defaults; a row whose key has the same word is the model."""


def read_added(folder: Path, known: Mapping[str, ModelSpec]) -> dict[str, ModelSpec]:
    """The rows that were added on this machine, but for those whose key is `known`.

    A file that cannot be read is left alone, and said so in the log.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        tables = json.loads(path.read_text(encoding="utf-8"))
        rows = {key: _row_from_json(values) for key, values in tables.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        _log.exception("The models that were added cannot be read from %s", path)
        return {}
    return {key: row for key, row in rows.items() if key not in known}


def write_added(folder: Path, rows: Mapping[str, ModelSpec]) -> None:
    """Remember the added rows; raises StorageFailed."""
    text = json.dumps({key: asdict(row) for key, row in rows.items()}, indent=1)
    with disk_errors():
        write_atomically(folder / FILE, text.encode())


def look_up(typed: str, settings: Settings) -> tuple[str, ModelCard]:
    """Read what a Hub id or a folder says of itself; the weights are not fetched.

    Returns:
        The source as it is kept: "owner/name", "owner/name@commit" or an absolute folder.

    Raises:
        InvalidRequest: what was typed is neither.
        ModelUnavailable: there is no such model, or no checkpoint in diffusers' layout.
    """
    source = typed.strip().removeprefix("https://huggingface.co/").strip("/")
    folder = Path(typed.strip()).expanduser()
    if folder.is_absolute():
        return str(folder), _read_folder(folder)
    if not _SOURCE.fullmatch(source):
        raise InvalidRequest(
            "Type a model as owner/name, as its page on the Hub is called, or the whole path of "
            f"a folder; got {typed[:80]!r}."
        )
    return source, _read_repository(source, settings)


def make_row(source: str, card: ModelCard, models: Mapping[str, ModelSpec]) -> ModelSpec:
    """A row for a model that no table knows, after the known one that is most like it.

    Raises:
        ModelUnavailable: no family draws with its class.
    """
    alike = _most_alike(source, card, models)
    name = split_source(source)[0]
    title = Path(name).name
    own = alike.defaults
    side = card.side or own.width
    fitted = replace(own, width=side, height=side) if card.side else own
    is_folder = Path(source).is_absolute()
    gigabytes = round(card.nbytes / 1e9, 1) or alike.download_gb
    return replace(
        alike,
        key=key_of(name),
        title=title,
        summary=f"Added here; drawn as {alike.title} is",
        sources=(source,) if not is_folder else alike.sources,
        folder=source if is_folder else None,
        is_added=True,
        status="experimental",
        uncertain=GUESSED,
        licence=card.licence,
        licence_url=card.licence_url,
        commercial_use=card.commercial_use,
        gated=card.gated,
        variant="fp16" if card.has_fp16 else None,
        fused_lora=None,
        hub_lora=None,
        hosted=False,
        base=card.base or alike.base,
        refiner=None,
        next_stage=None,
        download_gb=max(gigabytes, 0.1),
        memory_gb=max(round(1.3 * gigabytes, 1), 0.1),
        max_side=max(alike.max_side, side),
        min_side=min(alike.min_side, side),
        defaults=fitted,
    )


def key_of(name: str) -> str:
    """A key for a name of the Hub, or for a folder: small letters, digits and hyphens."""
    parts = name.strip("/").split("/")[-2:]
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")[:60]


def _most_alike(source: str, card: ModelCard, models: Mapping[str, ModelSpec]) -> ModelSpec:
    same = [row for row in models.values() if row.pipeline_class == card.pipeline_class]
    same = [row for row in same if row.backend != "hosted" and row.key != "builtin"]
    if not same:
        known = ", ".join(sorted({row.pipeline_class for row in models.values()}))
        raise ModelUnavailable(
            f"{source} wants diffusers' {card.pipeline_class}, with which Croquis does not draw. "
            f"It draws with {known}."
        )
    words = [word for word in _SPECIAL if word in source.lower()]

    def likeness(row: ModelSpec) -> int:
        shared = sum(word in row.key or word in row.title.lower() for word in words)
        others = sum(word in row.key for word in _SPECIAL if word not in words)
        return 4 * (row.base == card.base) + 2 * shared - 2 * others - bool(row.hub_lora)

    return max(same, key=likeness)


def _read_folder(folder: Path) -> ModelCard:
    if not folder.is_dir():
        raise ModelUnavailable(f"There is no folder {folder} on the machine that Croquis runs on.")
    files = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in (*folder.glob("*"), *folder.glob("*/*"))
        if path.is_file()
    }
    return read_card(folder, files, folder.name, gated="no")


def _read_repository(source: str, settings: Settings) -> ModelCard:
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    repository, commit = split_source(source)
    if settings.offline:
        raise ModelUnavailable("`CROQUIS_OFFLINE` is set, so the Hub cannot be asked.")
    try:
        api = HfApi(token=settings.hf_token)
        known = api.model_info(repository, revision=commit, timeout=TIMEOUT_S, files_metadata=True)
        files = {one.rfilename: one.size or 0 for one in known.siblings or []}
        read = [
            hf_hub_download(
                repository,
                name,
                revision=commit or known.sha,
                token=settings.hf_token,
                etag_timeout=TIMEOUT_S,
            )
            for name in files
            if any(fnmatch(name, pattern) for pattern in SMALL_FILES)
        ]
    except (OSError, HTTPError, ValueError) as exc:
        raise ModelUnavailable(
            f"{source} cannot be read. Either there is no such model on the Hub, or it is gated "
            "(accept its licence there and set `CROQUIS_HF_TOKEN`), or there is no connection."
        ) from exc
    folder = next((Path(path).parent for path in read if path.endswith(INDEX)), Path())
    return read_card(folder, files, source, gated="yes" if known.gated else "no")


def _row_from_json(values: Mapping[str, Any]) -> ModelSpec:
    known = {one.name for one in fields(ModelSpec)}
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name in known
    }
    given["defaults"] = Defaults(**values["defaults"])
    return ModelSpec(**given)
