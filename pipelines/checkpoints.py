"""The files of a model on this machine: what they are, what they take, and what is wrong with them.

Only safetensors are read and no remote code is run.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pipelines.device import is_out_of_memory
from studio.errors import ModelUnavailable, OutOfMemory
from studio.recipes import LOCAL
from studio.specs import TEXT_ENCODER

if TYPE_CHECKING:
    from studio.hosting import Provider
    from studio.plans import Holding
    from studio.specs import ModelSpec

PICKLE_SUFFIXES = {".bin", ".ckpt", ".pt", ".pth"}

OnMessage = Callable[[str], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The files of a model, found on this machine."""

    spec: ModelSpec
    folder: Path
    revision: str
    """"<repository>@<commit>" of the Hub, or "local@<hash of the weights>" of a folder."""
    variant: str | None
    nbytes: int
    """Bytes that the weights will take when loaded."""
    prior: Path | None = None
    """The folder of the second checkpoint that some models need."""
    lora: Path | None = None
    """The file of a LoRA that is fused into its weights."""
    holding: Holding = "full"
    """Where its modules are while they do not work."""
    provider: Provider | None = None
    """Who draws in the place of this machine, which then has no files of it."""


def count_elements(weights: Path) -> int:
    """Count the numbers in a safetensors file from its header."""
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as tensors:
        slices = (tensors.get_slice(name) for name in tensors.keys())  # noqa: SIM118
        return sum(torch.Size(piece.get_shape()).numel() for piece in slices)


def revision_of(commit: str | None, weights: list[Path], lora: Path | None) -> str:
    """Name what a picture is drawn with: the Hub's commit or the files' hash, and the LoRA's."""
    if commit is None:
        return f"{LOCAL}@{short_hash([*weights, lora] if lora else weights)}"
    return f"{commit}+{short_hash([lora])}" if lora else commit


def short_hash(weights: Sequence[Path]) -> str:
    """The first 12 digits of the SHA-256 of some files, one after the other."""
    digest = hashlib.sha256()
    for path in weights:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:12]


def check_folder(spec: ModelSpec, folder: Path) -> None:
    """Refuse a folder that holds no checkpoint, or one that only pickle could read."""
    if not folder.is_dir():
        raise ModelUnavailable(
            f"{spec.title} is set to be loaded from the folder “{folder.name}”, which does not "
            f"exist. Correct `CROQUIS_MODEL_PATHS`."
        )
    if not (folder / "model_index.json").is_file():
        raise ModelUnavailable(
            f"{spec.title}: the folder “{folder.name}” holds no checkpoint in diffusers' layout, "
            f"which has a file `model_index.json`."
        )
    for part in folder.iterdir():
        is_unread = part.name == TEXT_ENCODER and not spec.reads_itself
        if is_unread or any(part.glob("*.safetensors")):
            continue
        if any(path.suffix in PICKLE_SUFFIXES for path in part.glob("*")):
            raise ModelUnavailable(
                f"{spec.title}: “{folder.name}/{part.name}” holds only pickle weights, which can "
                f"run code when they are opened. Croquis loads safetensors only: get those files "
                f"of the checkpoint, or convert these."
            )


@contextmanager
def damage_reported(spec: ModelSpec, folder: Path, lora: Path | None = None) -> Iterator[None]:
    """Say in plain words what the libraries raise about the files of a checkpoint."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as exc:
        if is_out_of_memory(exc):
            raise OutOfMemory(
                f"{spec.title} does not fit into the memory of this machine. Choose a smaller "
                f"model, or lower `CROQUIS_MEMORY_BUDGET_GB` so that others make room."
            ) from exc
        log.warning("Could not load %s from %s", spec.key, folder, exc_info=True)
        places = f"“{folder.name}”"
        if lora is not None:
            places += f" or “{lora.parent.name if spec.fused_lora else lora.name}”"
        raise ModelUnavailable(
            f"{spec.title} could not be loaded: files in its folder {places} are missing or "
            f"damaged."
        ) from exc
