"""Tensors that stay in their place, into which the arguments of each call are copied.

A recording reads its inputs from fixed memory, and anything that is no tensor is part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from pipelines.rows import TIMESTEP, read_rows

BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Rows that are recorded. A picture alone has 1 to 4: those are never filled up."""
CONSTANTS = (bool, int, float, str, type(None), torch.dtype)


class NotFixed(Exception):
    """Arguments that no recording can be made of."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a denoiser, ready to be recorded or replayed."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    rows: int | None
    """Rows that it has; None if they cannot be filled up."""
    bucket: int | None
    """Rows that are recorded."""
    key: Hashable
    """Equal for calls that one recording serves."""

    @property
    def is_filled_up(self) -> bool:
        """Whether rows are recorded that nobody asked for."""
        return self.rows != self.bucket


def read_call(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], device: torch.device
) -> Call:
    """Find out what recording a call needs.

    Raises:
        NotFixed: a tensor is on another device or of another class, or an argument is neither a
            tensor nor a constant.
    """
    if not isinstance(module, UNet2DConditionModel):
        return Call(args, kwargs, None, None, _key((args, dict(kwargs)), device))
    rows = read_rows(module, args, kwargs)
    named = {name: value for name, value in rows.arguments.items() if name != "self"}
    if TIMESTEP in named:
        named[TIMESTEP] = _as_tensor(named[TIMESTEP], device)
    count = None if rows.shape is None else rows.count
    bucket = count and next((size for size in BUCKETS if size >= count), count)
    return Call((), named, count, bucket, _key(named, device, count, bucket))


class Buffers:
    """The arguments of the calls of one key, in memory that stays."""

    def __init__(self, call: Call) -> None:
        self.args, self.kwargs = _mapped(
            (call.args, dict(call.kwargs)),
            lambda given: _room_for(given, call.rows, call.bucket),
        )
        self.fill(call)

    def fill(self, call: Call) -> None:
        """Copy the arguments in; rows that are left over repeat the last one."""
        sources = _tensors((call.args, dict(call.kwargs)))
        for kept, given in zip(_tensors((self.args, self.kwargs)), sources, strict=True):
            if kept.shape == given.shape:
                kept.copy_(given)
            else:
                kept[: len(given)].copy_(given)
                kept[len(given) :].copy_(given[-1:])


def first_rows(call: Call, output: Any) -> Any:
    """What a recorded call returned, without the rows that were left over."""
    return _mapped(output, lambda tensor: tensor[: call.rows]) if call.is_filled_up else output


def copy_of(output: Any) -> Any:
    """The same in memory of its own.

    Raises:
        NotFixed: there is something else than tensors in it.
    """
    return _mapped(output, torch.Tensor.clone)


def are_same(one: Any, other: Any) -> bool:
    """Whether two outputs are of the same bits."""
    pairs = zip(_tensors(one), _tensors(other), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


def relative_error(output: Any, expected: Any) -> float:
    """The norm of the difference over the norm, of all tensors; NaN if there is one."""
    wrong = right = 0.0
    for one, other in zip(_tensors(output), _tensors(expected), strict=True):
        wrong += float((one.float() - other.float()).square().sum())
        right += float(other.float().square().sum())
    return float((wrong / right) ** 0.5) if right else float(wrong > 0)


def _as_tensor(timestep: Any, device: torch.device) -> torch.Tensor:
    """The timestep on the device, as a U-Net puts it there itself."""
    if not isinstance(timestep, torch.Tensor):
        kind = torch.float64 if isinstance(timestep, float) else torch.int64
        return torch.tensor([timestep], dtype=kind, device=device)
    return timestep.to(device)


def _key(
    value: Any, device: torch.device, count: int | None = None, bucket: int | None = None
) -> Hashable:
    """Shapes, layouts and dtypes of all tensors, and the constants with their types: 1 == True."""
    if type(value) in (torch.Tensor, nn.Parameter) and value.layout is torch.strided:
        if value.device != device:
            raise NotFixed
        return (_shape(value, count, bucket), _layout(value), value.dtype)
    if type(value) in (list, tuple):
        return (type(value), *(_key(part, device, count, bucket) for part in value))
    if type(value) is dict:
        parts = ((name, _key(part, device, count, bucket)) for name, part in value.items())
        return (dict, *parts)
    if type(value) in CONSTANTS:
        return (type(value), value)
    raise NotFixed


def _shape(tensor: torch.Tensor, count: int | None, bucket: int | None) -> tuple[int | None, ...]:
    if count is None or not tensor.ndim or len(tensor) != count:
        return (*tensor.shape,)
    return (bucket, *tensor.shape[1:])


def _layout(tensor: torch.Tensor) -> tuple[bool, bool]:
    last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return (tensor.is_contiguous(), last)


def _room_for(given: torch.Tensor, rows: int | None, bucket: int | None) -> torch.Tensor:
    """Memory of its own in the same layout, with as many rows as are recorded."""
    if rows is None or bucket is None or not given.ndim or len(given) != rows:
        return torch.empty_like(given)
    return torch.cat([given, given[-1:].expand(bucket - rows, *given.shape[1:])])


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in nested lists, tuples and mappings, in a fixed order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)


def _mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same with every tensor changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)(_mapped(part, change) for part in value)
    if isinstance(value, Mapping):
        return type(value)(**{name: _mapped(part, change) for name, part in value.items()})
    if type(value) in CONSTANTS:
        return value
    raise NotFixed
