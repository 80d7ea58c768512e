"""Keeps what text encoders said, so that the same prompt is encoded once.

What an encoder says is decided by its weights and by what it is given: the numbers of the tokens,
and such options as whether all layers are wanted. Both make the key, so nothing that a visitor
chose besides his words can come in. A LoRA and a taught word are in an encoder of their own, a
twin, and so never meet what the model itself said.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from pipelines.fingerprint import Fingerprint
from pipelines.twins import shallow_copy

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

BUDGET_BYTES = 32 * 2**20
"""For each text encoder: 140 prompts of Stable Diffusion in float32, a few of the largest T5."""
ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
"""Names of the components."""
MARK = "_croquis_remembers"
"""On a module that asks its memory first."""


class NotRemembered(Exception):
    """Something in a call, or in what came of it, is not known to be all that decides it."""


@dataclass(slots=True)
class _Memory:
    """What one text encoder said, least recently asked for first."""

    fingerprint: Fingerprint
    said: OrderedDict[Hashable, Any] = field(default_factory=OrderedDict)
    nbytes: int = 0


class Remembering:
    """The memory of text encoders. For one thread; what a freed encoder said goes with it.

    Args:
        budget_bytes: what may be kept of each encoder.
    """

    def __init__(self, budget_bytes: int = BUDGET_BYTES) -> None:
        self._budget_bytes = budget_bytes
        self._memories: WeakKeyDictionary[nn.Module, _Memory] = WeakKeyDictionary()

    @property
    def nbytes(self) -> int:
        """Bytes of all that is kept, where the encoders are."""
        return sum(memory.nbytes for memory in self._memories.values())

    def stand_ins(self, pipeline: DiffusionPipeline) -> dict[str, nn.Module]:
        """By name, what stands for the text encoders of a pipeline without hooks."""
        parts = {name: pipeline.components.get(name) for name in ENCODERS}
        return {n: self.stand_in(part) for n, part in parts.items() if isinstance(part, nn.Module)}

    def stand_in(self, module: nn.Module) -> nn.Module:
        """A module that shares all that a text encoder has; itself if it is such a one already."""
        if MARK in vars(module):
            return module
        copied = shallow_copy(module)
        copied.forward = functools.partial(self._ask, module)
        vars(copied)[MARK] = True
        return copied

    def _ask(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        try:
            key = _key_of(module, args, kwargs)
        except NotRemembered:
            return module(*args, **kwargs)
        memory = self._memory_of(module)
        if memory is not None and key in memory.said:
            memory.said.move_to_end(key)
            return _copy_of(memory.said[key])
        output = module(*args, **kwargs)
        self._keep(module, key, output)
        return output

    def _memory_of(self, module: nn.Module) -> _Memory | None:
        """None if there is none yet, or of what the encoder was before it was changed."""
        memory = self._memories.get(module)
        return memory if memory is not None and memory.fingerprint.fits() else None

    def _keep(self, module: nn.Module, key: Hashable, output: Any) -> None:
        """The encoder is looked at after its call: transformers adds hooks in the first."""
        memory = self._memory_of(module) or _Memory(Fingerprint(module))
        self._memories[module] = memory
        try:
            kept = _copy_of(output)
        except NotRemembered:
            return
        memory.said[key] = kept
        memory.nbytes += _count_bytes(kept)
        while memory.nbytes > self._budget_bytes:
            _, oldest = memory.said.popitem(last=False)
            memory.nbytes -= _count_bytes(oldest)


def _key_of(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Hashable:
    """All that decides what an encoder says, besides its weights; raises NotRemembered."""
    if module.training or torch.is_grad_enabled() or torch.is_autocast_enabled():
        raise NotRemembered
    return (*map(_mark, args), *((name, _mark(value)) for name, value in sorted(kwargs.items())))


def _mark(value: Any) -> Hashable:
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            raise NotRemembered
        return (str(value.device), value.dtype, *value.shape, value.cpu().numpy().tobytes())
    if not isinstance(value, (bool, int, float, str, type(None))):
        raise NotRemembered
    return (type(value), value)


def _copy_of(output: Any) -> Any:
    """What nobody else holds: a pipeline may write into what it is given."""
    if isinstance(output, torch.Tensor):
        return output.clone()
    if isinstance(output, Mapping):
        return type(output)(**{name: _copy_of(value) for name, value in output.items()})
    if type(output) in (tuple, list):
        return type(output)(map(_copy_of, output))
    if output is not None:
        raise NotRemembered
    return None


def _count_bytes(output: Any) -> int:
    if isinstance(output, torch.Tensor):
        return output.nbytes
    if isinstance(output, Mapping):
        return sum(map(_count_bytes, output.values()))
    if type(output) in (tuple, list):
        return sum(map(_count_bytes, output))
    return 0
