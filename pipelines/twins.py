"""A second module around the same weights, so that what is done to it leaves the first as it was.

A LoRA, an IP-Adapter or a new word replaces parts of a module. Taking that back is never exact:
layers stay wrapped, attention gets other functions, the table of words another length. So all of
it is done to a twin, which takes no memory for weights, and the twin is thrown away.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn

HOOK = "_hf_hook"
"""accelerate's, on a module that waits in the machine's memory."""
GROUP_HOOK = "_diffusers_hook"
"""diffusers', on layers that do."""
ATOMS = (bool, int, float, str, type(None))


def alias(tensor: torch.Tensor) -> Any:
    """The same memory under a name of its own; a quantised tensor has more, and is shared."""
    if type(tensor) is nn.Parameter:
        return nn.Parameter(tensor.data, requires_grad=False)
    return tensor.detach() if type(tensor) is torch.Tensor else tensor


def twin_of(module: nn.Module, place: Callable[[torch.Tensor], Any] = alias) -> nn.Module:
    """A deep copy of the structure of a module; weights and buffers are the same memory.

    `place` may put them elsewhere: it is given each of them once.

    Nothing may write into the twin's weights; putting others in their place is free. The hooks
    that move an offloaded module to the device and back stay with the first.
    """
    parts = [*module.modules()]
    memo: dict[int, Any] = {
        id(tensor): place(tensor) for tensor in (*module.parameters(), *module.buffers())
    }
    memo |= {id(vars(part)[HOOK]): None for part in parts if HOOK in vars(part)}
    made = {id(part): part.__class__.__new__(part.__class__) for part in parts}
    memo |= made
    for part in parts:
        state = {name: _own(value, memo) for name, value in vars(part).items()}
        if HOOK in state:
            for name in (HOOK, "_old_forward", "forward"):
                state.pop(name, None)
        vars(made[id(part)]).update(state)
    return made[id(module)]


def _own(value: Any, memo: dict[int, Any]) -> Any:
    """`copy.deepcopy`, without the calls for what a module has most: a third of the time."""
    if isinstance(value, ATOMS) or type(value) is tuple and all(map(_is_atom, value)):
        return value
    if id(value) in memo:
        return memo[id(value)]
    if type(value) is set and not value:
        return set()
    if type(value) not in (dict, OrderedDict):
        return copy.deepcopy(value, memo)
    made = memo[id(value)] = type(value)()
    made.update((name, _own(one, memo)) for name, one in value.items())
    return made


def _is_atom(value: Any) -> bool:
    return isinstance(value, ATOMS)


def shallow_copy(module: nn.Module) -> nn.Module:
    """Another object with the same parameters and submodules, whose hooks do not run."""
    made = module.__class__.__new__(module.__class__)
    vars(made).update(vars(module), _forward_hooks=OrderedDict(), _forward_pre_hooks=OrderedDict())
    return made


def is_offloaded(pipeline: DiffusionPipeline) -> bool:
    """Whether hooks bring its modules to the device when they work."""
    return any(HOOK in vars(part) for part in _modules(pipeline))


def is_grouped(pipeline: DiffusionPipeline) -> bool:
    """Whether hooks bring single layers to the device, which no twin can share."""
    return any(GROUP_HOOK in vars(layer) for part in _modules(pipeline) for layer in part.modules())


def _modules(pipeline: DiffusionPipeline) -> list[nn.Module]:
    return [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
