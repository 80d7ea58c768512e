"""What the host of a Croquis decides: read once from variables named `CROQUIS_*`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from studio.errors import InvalidRequest

ROOT = Path(__file__).resolve().parent.parent
"""The folder of the repository; relative paths of `assets/models.toml` start here."""

_Value = TypeVar("_Value")


def _text(text: str) -> str:
    return text


def _folder(text: str) -> Path:
    """an existing or new folder, absolute or relative to the repository"""
    return ROOT / Path(text).expanduser()


def _port(text: str) -> int:
    """a whole number between 0 and 65535"""
    if not 0 <= int(text) <= 65535:
        raise ValueError
    return int(text)


def _count(text: str) -> int:
    """a whole number of at least 1"""
    if int(text) < 1:
        raise ValueError
    return int(text)


def _gigabytes(text: str) -> float:
    """a number above 0"""
    if not 0 < float(text) < math.inf:
        raise ValueError
    return float(text)


def _gigabytes_or_none(text: str) -> float:
    """a number of at least 0"""
    return _gigabytes(text) if float(text) else 0.0


def _switch(text: str) -> bool:
    """1 or 0"""
    return {"1": True, "true": True, "0": False, "false": False}[text.lower()]


def _paths(text: str) -> dict[str, Path]:
    """model=/folder, several with ; between them"""
    pairs = [pair.partition("=") for pair in text.split(";") if pair.strip()]
    if any(not key.strip() or not path.strip() for key, _, path in pairs):
        raise ValueError
    return {key.strip(): _folder(path.strip()) for key, _, path in pairs}


def _names(text: str) -> tuple[str, ...]:
    """keys of models, several with ; between them"""
    return tuple(name.strip() for name in text.split(";") if name.strip())


def _device(text: str) -> str:
    """auto, cuda, cuda:0 (or another number), mps or cpu"""
    if not re.fullmatch(r"auto|mps|cpu|cuda(:\d{1,2})?", text):
        raise ValueError
    return text


def _dtype(text: str) -> str:
    """auto, float32, float16 or bfloat16"""
    if text not in ("auto", "float32", "float16", "bfloat16"):
        raise ValueError
    return text


def _acceleration(text: str) -> str:
    """auto, eager, graphs or compile"""
    if text not in ("auto", "eager", "graphs", "compile"):
        raise ValueError
    return text


def _setting(
    default: _Value, explanation: str, parse: Callable[[str], object], shown: bool = True
) -> _Value:
    """A dataclass field that knows how it is explained and how its variable is read."""
    known = {"help": explanation, "parse": parse}
    made: object = field(default_factory=lambda: copy(default), metadata=known, repr=shown)
    return cast(_Value, made)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that may differ between two hosts. One field here is one variable there."""

    data_dir: Path = _setting(
        ROOT / "data", "Folder of the pictures and of the embedded database", _folder
    )
    database_url: str = _setting(
        "", "SQLAlchemy URL of the database; empty is SQLite in the data folder", _text
    )
    host: str = _setting("127.0.0.1", "Address to listen on; 0.0.0.0 is every network", _text)
    port: int = _setting(7860, "Port to listen on; 0 is any free one", _port)
    device: str = _setting(
        "auto",
        "Where to draw: auto, cuda, cuda:1, mps or cpu",
        _device,
    )
    dtype: str = _setting(
        "auto",
        "Number format of the models: auto, float32, float16 or bfloat16",
        _dtype,
    )
    acceleration: str = _setting(
        "auto",
        "How steps are sped up: eager is plainly; graphs is CUDA graphs, which keep every bit; "
        "compile is torch.compile besides, after a while and with other last bits; auto is graphs "
        "on CUDA, eager elsewhere",
        _acceleration,
    )
    tf32: bool = _setting(
        False, "1 lets CUDA round float32 to TF32 inside products: faster, other pictures", _switch
    )
    memory_budget_gb: float | None = _setting(
        None, "Memory for loaded models in GB; empty is most of what the device has", _gigabytes
    )
    ram_budget_gb: float | None = _setting(
        None,
        "Memory of the machine in GB, for models that a GPU has no room for; 0 is none, empty is "
        "half of what is free",
        _gigabytes_or_none,
    )
    queue_limit: int = _setting(100, "Jobs that may wait, all visitors together", _count)
    owner_queue_limit: int = _setting(20, "Jobs of one visitor that may wait", _count)
    model: str = _setting("builtin", "Model that a new visitor starts with", _text)
    preload: tuple[str, ...] = _setting(
        (),
        "Models that a ZeroGPU Space holds from the start: sdxl;sd-turbo; empty is the first one",
        _names,
    )
    model_paths: dict[str, Path] = _setting(
        {}, "Local folders of models: sd2=/models/sd2;builtin=/other", _paths
    )
    cpu_threads: int | None = _setting(
        None, "Threads for drawing on a CPU; empty is chosen by Croquis", _count
    )
    provider: str = _setting(
        "",
        "Inference provider for models that this machine cannot hold: auto, a provider's name "
        "or the URL of an endpoint; empty is none",
        _text,
    )
    offline: bool = _setting(False, "1 never downloads a model", _switch)
    model_admin: bool | None = _setting(
        None,
        "1 lets every visitor download and delete models under Models, 0 nobody; empty is 1 where "
        "`CROQUIS_HOST` is this machine alone. Set 0 behind a proxy that strangers reach",
        _switch,
    )
    hf_token: str | None = _setting(
        None, "Hugging Face token for models that ask for one", _text, shown=False
    )

    @property
    def lets_manage_models(self) -> bool:
        """Whether visitors may download and delete models."""
        if self.model_admin is not None:
            return self.model_admin
        return self.host in ("127.0.0.1", "localhost", "::1")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Read every `CROQUIS_*` variable; an empty or absent one keeps its default.

        Raises:
            InvalidRequest: a value breaks its rule; names the variable, the rule, the value.
        """
        given: dict[str, Any] = {}
        for spec in fields(cls):
            text = environ.get(_variable(spec.name), "").strip()
            if text:
                given[spec.name] = _parse(_variable(spec.name), text, spec.metadata["parse"])
        return cls(**given)


class Setting(NamedTuple):
    """One line of the README's table."""

    name: str
    default: str
    help: str


def _variable(field_name: str) -> str:
    return f"CROQUIS_{field_name.upper()}"


def _parse(variable: str, text: str, parse: Callable[[str], object]) -> object:
    try:
        return parse(text)
    except (ValueError, KeyError) as exc:
        raise InvalidRequest(f"`{variable}` must be {parse.__doc__}, got {text!r}.") from exc


def _written(default: object) -> str:
    """A default as one would write it into the variable."""
    if isinstance(default, Path):
        return default.relative_to(ROOT).as_posix()
    if isinstance(default, bool):
        return str(int(default))
    return str(default) if default else ""


SETTINGS: tuple[Setting, ...] = tuple(
    Setting(_variable(spec.name), _written(getattr(Settings(), spec.name)), spec.metadata["help"])
    for spec in fields(Settings)
)
"""Every variable, in the order of the README."""
