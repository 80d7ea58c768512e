"""A model that is changed for one request alone, and how its pipeline is made.

The model is shared and is never changed: all goes into twins of its modules.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from diffusers import DiffusionPipeline
from torch import nn

from pipelines.holding import place
from pipelines.shells import build_shell
from pipelines.twins import is_grouped, is_offloaded, twin_of
from studio.adapters import HubFile, UploadedFile
from studio.errors import InvalidRequest

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.loader import LoadedModel
    from studio.request import GenerationRequest


class Sources(Protocol):
    """Where the files are that requests name."""

    def uploaded(self, file: UploadedFile, owner: str) -> tuple[Path, str]:
        """A visitor's own file, and what it was called; raises NotFound."""

    def fetched(self, file: HubFile, on_message: Callable[[str], None]) -> Path:
        """A file of the Hub, downloaded if it is not here; raises ModelUnavailable."""


class Watcher(Protocol):
    """Who follows the request."""

    def on_message(self, text: str) -> None:
        """Told what takes its time."""

    def add_note(self, text: str) -> None:
        """Told what the visitor should know."""


@dataclass(frozen=True, slots=True)
class Adapted:
    """What to draw with, and what."""

    loaded: LoadedModel
    request: GenerationRequest
    images: Mapping[str, Image.Image]


def own_pipeline(loaded: LoadedModel, names: set[str]) -> DiffusionPipeline:
    """A pipeline in which the components with these names are this request's own.

    Of an offloaded model all are: the hooks that move them know each other.
    """
    shared = loaded.pipeline.components
    if is_grouped(loaded.pipeline):
        raise InvalidRequest(
            f"{loaded.spec.title} is held in this machine's memory layer by layer, and so takes no "
            f"LoRA, embedding or reference picture here. Choose a smaller model."
        )
    if is_offloaded(loaded.pipeline):
        names = names | {name for name, part in shared.items() if isinstance(part, nn.Module)}
    parts = {
        name: twin_of(part) if isinstance(part, nn.Module) else copy.deepcopy(part)
        for name in names
        if (part := shared.get(name)) is not None
    }
    return build_shell(loaded, parts=parts)


def placed(pipeline: DiffusionPipeline, loaded: LoadedModel, device: str) -> DiffusionPipeline:
    """Give a pipeline of twins the hooks that its first has."""
    return place(pipeline, "offload", device) if is_offloaded(loaded.pipeline) else pipeline


def added_bytes(loaded: LoadedModel, changed: LoadedModel) -> int:
    """Bytes of the weights that a changed model has, and the model itself has not."""
    shared = {tensor.untyped_storage().data_ptr() for tensor in _tensors(loaded)}
    own = {tensor.untyped_storage().data_ptr(): tensor.nbytes for tensor in _tensors(changed)}
    return sum(nbytes for address, nbytes in own.items() if address not in shared)


def _tensors(loaded: LoadedModel) -> Iterator[torch.Tensor]:
    for part in loaded.pipeline.components.values():
        if isinstance(part, nn.Module):
            yield from (*part.parameters(), *part.buffers())
