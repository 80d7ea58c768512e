"""Where models wait that the device had no room left for: in the machine's memory.

From there a model comes back at the rate of the bus, without its files being read and checked. On
a CPU this is of no use: what is loaded is in the machine's memory already.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeGuard
from weakref import ref

import psutil
import torch
from diffusers import DiffusionPipeline
from torch import nn

from pipelines.device import is_out_of_memory, usable_bytes
from pipelines.loader import LoadedModel
from pipelines.shells import build_shell
from pipelines.twins import is_grouped, is_offloaded, twin_of

if TYPE_CHECKING:
    from studio.settings import Settings

CHUNK_BYTES = 64 * 2**20
"""Weights lie in chunks of this size: torch rounds pinned memory up to a power of two."""
ALIGNMENT = 512
"""Bytes between the starts of two weights are a multiple of this, as in CUDA's own memory."""
FREE_SHARE = 0.8
"""Of the memory that is free now, the most that one parked model may take."""

log = logging.getLogger(__name__)


class Parking:
    """Copies of models under a budget of bytes, least recently wanted out first.

    A copy stays when its model is back on the device, so that pushing that out again costs
    nothing. Safe to use from several threads.

    Args:
        budget_bytes: how many bytes of weights may wait.
        device: where models work.
        ram: where they wait.
    """

    def __init__(self, budget_bytes: int, device: str, ram: str = "cpu") -> None:
        self._budget_bytes = budget_bytes
        self._device = torch.device(device)
        self._ram = torch.device(ram)
        self._kept: OrderedDict[str, LoadedModel] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def nbytes(self) -> int:
        """Bytes of the weights that wait."""
        with self._lock:
            return sum(kept.nbytes for kept in self._kept.values())

    def size_of(self, key: str) -> int | None:
        """Bytes of a model's weights; None if it does not wait here."""
        with self._lock:
            return self._kept[key].nbytes if key in self._kept else None

    def park(self, key: str, loaded: object, wanted: str = "") -> bool:
        """Keep a copy of what leaves the device, if there is room; whether there is one now.

        Args:
            wanted: the key of a model that is about to come back, and so makes no room.
        """
        if not can_wait(loaded):
            return False
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or kept.revision != loaded.revision:
                self.drop(key)
                if not self._make_room(loaded.nbytes, wanted):
                    return False
                try:
                    self._kept[key] = moved(loaded, _Shelf(self._ram, self._device, loaded.nbytes))
                except RuntimeError as exc:
                    log.warning("%s does not wait in memory: %s", key, exc)
                    return False
            self._kept.move_to_end(key)
            return True

    def fetch(self, key: str) -> LoadedModel | None:
        """A model on the device again, a new one; None if it does not wait here, or not fit."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                return None
            self._kept.move_to_end(key)
            try:
                return moved(kept, self._to_device)
            except RuntimeError as exc:
                if not is_out_of_memory(exc):
                    raise
        return None

    def drop(self, key: str) -> None:
        """Forget a model, if it waits here."""
        with self._lock:
            self._kept.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept.clear()

    def _make_room(self, nbytes: int, wanted: str) -> bool:
        """Forget what was wanted longest ago; False if so much can never wait."""
        if nbytes > min(self._budget_bytes, FREE_SHARE * psutil.virtual_memory().available):
            return False
        for key in [key for key in self._kept if key != wanted]:
            if self.nbytes + nbytes > self._budget_bytes:
                self.drop(key)
        return self.nbytes + nbytes <= self._budget_bytes

    def _to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        made = torch.empty_strided(
            tensor.shape, tensor.stride(), dtype=tensor.dtype, device=self._device
        )
        return made.copy_(tensor, non_blocking=True)


class _Shelf:
    """Memory for the weights of one model, pinned where a GPU is to read it.

    Args:
        ram: where it is.
        device: where the weights come from.
        nbytes: how much is expected.
    """

    def __init__(self, ram: torch.device, device: torch.device, nbytes: int) -> None:
        self._ram = ram
        self._is_pinned = device.type == "cuda" and ram.type == "cpu"
        self._chunk_bytes = min(CHUNK_BYTES, nbytes)
        self._chunk = torch.empty(0, dtype=torch.uint8)
        self._used = 0

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy of a tensor, which must be dense."""
        view = self._take(tensor.nbytes).view(tensor.dtype)
        return view.as_strided(tensor.shape, tensor.stride()).copy_(tensor)

    def _take(self, nbytes: int) -> torch.Tensor:
        """So many bytes of the last chunk, or of a new one."""
        if self._used + nbytes > len(self._chunk):
            size = max(self._chunk_bytes, nbytes)
            self._chunk = torch.empty(
                size, dtype=torch.uint8, device=self._ram, pin_memory=self._is_pinned
            )
            self._used = 0
        taken = self._chunk[self._used : self._used + nbytes]
        self._used += -(-nbytes // ALIGNMENT) * ALIGNMENT
        return taken


def moved(loaded: LoadedModel, copied: Callable[[torch.Tensor], torch.Tensor]) -> LoadedModel:
    """A model of its own, whose weights are copies of another's."""
    done: dict[int, Any] = {}

    def place(tensor: torch.Tensor) -> Any:
        if id(tensor) not in done:
            made = copied(tensor.detach())
            is_weight = isinstance(tensor, nn.Parameter)
            done[id(tensor)] = nn.Parameter(made, requires_grad=False) if is_weight else made
        return done[id(tensor)]

    parts = {name: twin_of(part, place) for name, part in _modules(loaded.pipeline).items()}
    return replace(loaded, pipeline=build_shell(loaded, parts=parts))


def can_wait(loaded: object) -> TypeGuard[LoadedModel]:
    """Whether a model is nothing but a pipeline and its plain weights, all on one device.

    Other backends have pipelines of their own; an offloaded model waits in memory anyway.
    """
    if not isinstance(loaded, LoadedModel) or loaded.spec.backend != "diffusers":
        return False
    pipeline = loaded.pipeline
    if not isinstance(pipeline, DiffusionPipeline) or is_offloaded(pipeline):
        return False
    modules = _modules(pipeline).values()
    tensors = [one for part in modules for one in (*part.parameters(), *part.buffers())]
    return not is_grouped(pipeline) and all(map(_is_plain, tensors))


def traces_of(model: object) -> list[ref[nn.Module]]:
    """What tells whether a model is gone once nobody has it: it may be in a cycle."""
    pipeline = getattr(model, "pipeline", None)
    if not isinstance(pipeline, DiffusionPipeline):
        return []
    return [ref(part) for part in _modules(pipeline).values()]


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether a copy with the same shape and strides holds all there is to it."""
    extent = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    is_dense = extent == tensor.numel() or not tensor.numel()
    return type(tensor) in (torch.Tensor, nn.Parameter) and is_dense


def _modules(pipeline: DiffusionPipeline) -> dict[str, nn.Module]:
    parts = pipeline.components.items()
    return {name: part for name, part in parts if isinstance(part, nn.Module)}


def pick_parking(device: str, settings: Settings) -> Parking | None:
    """The parking of a device: with the budget of the settings, or half of the free memory.

    None where the device's memory is the machine's own, or the host wants none.
    """
    if not device.startswith("cuda"):
        return None
    budget_bytes = min(usable_bytes(), psutil.virtual_memory().available) // 2
    if settings.ram_budget_gb is not None:
        budget_bytes = int(settings.ram_budget_gb * 1e9)
    return Parking(budget_bytes, device) if budget_bytes else None
