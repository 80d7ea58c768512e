"""Calls of one denoiser, joined along their rows and taken apart again.

A row is one sample of the batch axis; a guided picture has two. Everything that a U-Net is called
with has its rows first, but for the timestep, which may be one number for all, and for what is no
tensor. So calls whose other axes agree can be made as one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

SAMPLE, TIMESTEP = "sample", "timestep"
Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """What a denoiser is called with, by the names of its `forward`."""

    arguments: Arguments
    count: int
    """Rows of the sample."""
    size: str
    """The other axes of the sample, such as "4x64x64"."""
    shape: Hashable
    """Equal for calls that can be joined; None for one that must be made alone."""


def read_rows(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, can_join: bool = True
) -> Rows:
    """Name the arguments of a call and find out what it can be joined with."""
    arguments = _signature(type(module)).bind(None, *args, **kwargs).arguments
    sample = next((one for one in arguments.values() if isinstance(one, torch.Tensor)), None)
    if sample is None:
        return Rows(arguments, 1, "", None)
    count, size = len(sample) if sample.ndim else 1, "x".join(map(str, sample.shape[1:]))
    shape = _shape_of_all(arguments, count) if can_join else None
    return Rows(arguments, count, size, shape)


def join(calls: Sequence[Rows]) -> dict[str, Any]:
    """The keyword arguments of one call for all; their `shape` must be the same."""
    first = calls[0].arguments
    names = [name for name in first if name not in (TIMESTEP, "self")]
    joined = {name: _join([call.arguments[name] for call in calls]) for name in names}
    return joined | {TIMESTEP: torch.cat([_times(call) for call in calls])}


def split(output: Any, counts: Sequence[int]) -> list[Any]:
    """The output of a joined call in parts of so many rows: tuples, or the class it has."""
    if isinstance(output, tuple):
        columns = [split(part, counts) for part in output]
        return [tuple(column[i] for column in columns) for i in range(len(counts))]
    if isinstance(output, Mapping):
        parts = {name: split(value, counts) for name, value in output.items()}
        return [type(output)(**{n: p[i] for n, p in parts.items()}) for i in range(len(counts))]
    return list(output.split(list(counts)))


class _NotJoinable(Exception):
    """A value that has not one part for each row."""


@functools.cache
def _signature(kind: type[nn.Module]) -> inspect.Signature:
    """The first parameter is the module itself."""
    return inspect.signature(kind.forward)


def _shape_of_all(arguments: Arguments, count: int) -> Hashable:
    others = {name: arg for name, arg in arguments.items() if name not in (TIMESTEP, "self")}
    try:
        if not {SAMPLE, TIMESTEP} <= {*arguments}:
            raise _NotJoinable
        return (_shape_of(others, count), _takes_times(arguments[TIMESTEP], count))
    except _NotJoinable:
        return None


def _shape_of(value: Any, count: int) -> Hashable:
    """The axes behind the rows, of all tensors in nested lists and mappings."""
    if isinstance(value, torch.Tensor):
        if value.ndim == 0 or len(value) != count:
            raise _NotJoinable
        return (tuple(value.shape[1:]), value.dtype, value.device)
    if isinstance(value, Mapping):
        return tuple((name, _shape_of(part, count)) for name, part in value.items())
    if isinstance(value, list | tuple):
        return tuple(_shape_of(part, count) for part in value)
    if not isinstance(value, Hashable):
        raise _NotJoinable
    return value


def _takes_times(timestep: Any, count: int) -> str:
    """Numbers of any kind become float32, as a U-Net makes them itself: exact below 2^24."""
    if isinstance(timestep, torch.Tensor) and timestep.numel() not in (1, count):
        raise _NotJoinable
    return TIMESTEP


def _times(call: Rows) -> torch.Tensor:
    """(rows,) float32, on the device of the sample."""
    sample, timestep = call.arguments[SAMPLE], call.arguments[TIMESTEP]
    times = torch.as_tensor(timestep, dtype=torch.float32, device=sample.device)
    return times.reshape(-1).expand(call.count)


def _join(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(values)
    if isinstance(first, Mapping):
        return {name: _join([value[name] for value in values]) for name in first}
    if isinstance(first, list | tuple):
        return type(first)(_join(parts) for parts in zip(*values, strict=True))
    return first
