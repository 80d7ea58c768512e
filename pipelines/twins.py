"""A second module around the same weights, so that what is done to it leaves the first as it was.

A LoRA, an IP-Adapter or a new word replaces parts of a module. Taking that back is never exact:
layers stay wrapped, attention gets other functions, the table of words another length. So all of
it is done to a twin, which takes no memory for weights, and the twin is thrown away.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


def twin_of(module: nn.Module) -> nn.Module:
    """A copy of the structure of a module; weights and buffers are the same memory.

    Nothing may write into the twin's weights; putting others in their place is free.
    """
    tensors = (*module.parameters(), *module.buffers())
    return copy.deepcopy(module, {id(tensor): _alias(tensor) for tensor in tensors})


def _alias(tensor: torch.Tensor) -> Any:
    """The same memory under a name of its own; a quantised tensor has more, and is shared."""
    if type(tensor) is nn.Parameter:
        return nn.Parameter(tensor.data, requires_grad=False)
    return tensor.detach() if type(tensor) is torch.Tensor else tensor
