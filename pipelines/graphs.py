"""CUDA graphs of denoisers: the kernels of a call are recorded once, and replayed with others.

A small picture leaves a large GPU waiting for Python to launch the next kernel. A replay launches
all of them at once, and they are the same kernels: its bits are compared with those of the plain
call before it is ever used. See https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import nn

from pipelines.buffers import Buffers, Call, NotFixed, are_same, copy_of, first_rows, read_call
from pipelines.device import is_out_of_memory, release_memory
from pipelines.fingerprint import Fingerprint
from pipelines.recorders import Recorder
from pipelines.stepping import call_plainly

PATIENCE = 3
"""Plain calls of a kind before it is recorded, which takes the time of six more."""
LEAST_GAIN = 1.03
"""Time of a plain call over that of its replay; below, the card has no time to win back."""
MOST_GRAPHS = 32
"""Recordings of all modules together."""
MOST_KINDS = 256
"""Kinds of calls of one module that are remembered."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Recording:
    """A recorded call; it has the memory, not the module."""

    buffers: Buffers
    replay: Callable[[], None]
    output: Any

    def run(self, call: Call) -> Any:
        self.buffers.fill(call)
        self.replay()
        return copy_of(first_rows(call, self.output))


@dataclass(slots=True)
class _Kind:
    """What is known of the calls of one key."""

    calls: int = 0
    used: int = 0
    """The number of the last call, of all that were made."""
    is_plain: bool = False
    """Never to be recorded (again)."""
    recording: _Recording | None = None


@dataclass(slots=True)
class _Known:
    """What is known of one module, as long as it stays as it is."""

    fingerprint: Fingerprint | None = None
    """From the first recording on."""
    pool: Any = None
    kinds: dict[Hashable, _Kind] = field(default_factory=dict)

    @property
    def recorded(self) -> list[_Kind]:
        return [kind for kind in self.kinds.values() if kind.recording is not None]


class Graphs:
    """Makes calls, and replays those whose kind was recorded. For one thread.

    A module that is freed takes its recordings along; one that was moved or changed is recorded
    anew. None is kept alive.

    Args:
        recorder: of the device.
        quiet: held while recording, which is put off while another thread holds it.
        least_gain: a recording that gains less is thrown away.
        most: recordings that are kept.
    """

    def __init__(
        self,
        recorder: Recorder,
        quiet: threading.RLock | None = None,
        *,
        least_gain: float = LEAST_GAIN,
        most: int = MOST_GRAPHS,
    ) -> None:
        self._recorder = recorder
        self._quiet = quiet or threading.RLock()
        self._least_gain = least_gain
        self._most = most
        self._known: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()
        self._calls = 0

    def __len__(self) -> int:
        """Recordings that are kept."""
        return sum(len(known.recorded) for known in self._known.values())

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A `Denoise`."""
        call = self._read(module, args, kwargs)
        if call is None:
            return self._plainly(module, args, kwargs)
        known = self._known_of(module)
        kind = self._kind_of(known, call)
        if kind.recording is not None:
            return kind.recording.run(call)
        output = self._plainly(module, args, kwargs)
        if kind.calls > PATIENCE and not kind.is_plain:
            self._try(module, known, kind, call, output)
        return output

    def clear(self) -> None:
        """Throw all recordings away; their memory is free then."""
        self._known.clear()
        release_memory()

    def _read(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Call | None:
        """The call, if it is one that can be recorded: without gradients, without dropout."""
        if module.training or torch.is_grad_enabled():
            return None
        if torch.is_autocast_enabled(self._recorder.device.type):
            return None
        try:
            return read_call(module, args, kwargs, self._recorder.device)
        except NotFixed:
            return None

    def _known_of(self, module: nn.Module) -> _Known:
        known = self._known.get(module)
        if known is None or not (known.fingerprint is None or known.fingerprint.fits()):
            known = self._known[module] = _Known()
        return known

    def _kind_of(self, known: _Known, call: Call) -> _Kind:
        """What is known of this kind of call; the call is counted."""
        if call.key not in known.kinds and len(known.kinds) >= MOST_KINDS:
            known.kinds = {key: one for key, one in known.kinds.items() if one.recording}
        kind = known.kinds.setdefault(call.key, _Kind())
        self._calls += 1
        kind.calls, kind.used = kind.calls + 1, self._calls
        return kind

    def _plainly(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Make the call; if memory is short, recordings make room."""
        try:
            return call_plainly(module, args, kwargs)
        except Exception as exc:
            if not is_out_of_memory(exc) or not len(self):
                raise
        log.info("Memory is short: the graphs are thrown away")
        self.clear()
        return call_plainly(module, args, kwargs)

    def _try(
        self, module: nn.Module, known: _Known, kind: _Kind, call: Call, expected: Any
    ) -> None:
        """Record a kind of call, if it gains by it; whatever goes wrong costs only that."""
        if not self._quiet.acquire(blocking=False):
            return
        try:
            kind.is_plain = True
            kind.recording = self._recorded(module, known, call, expected)
            kind.is_plain = kind.recording is None
        except Exception as exc:
            log.warning("A %s is not replayed as a graph: %s", type(module).__name__, exc)
            release_memory()
        finally:
            self._quiet.release()
        self._drop_oldest()

    def _recorded(
        self, module: nn.Module, known: _Known, call: Call, expected: Any
    ) -> _Recording | None:
        """A recording whose replay has the bits of the plain call and is faster than it."""
        fingerprint = Fingerprint(module)
        if fingerprint.is_hooked or not self._recorder.has_room():
            return None
        buffers, alive = Buffers(call), ref(module)

        def run() -> Any:
            return call_plainly(_living(alive), buffers.args, buffers.kwargs)

        known.pool = known.pool or self._recorder.new_pool()
        recording = _Recording(buffers, *self._recorder.record(run, known.pool))
        replayed = recording.run(call)
        if not are_same(replayed, first_rows(call, run()) if call.is_filled_up else expected):
            log.warning("A graph of a %s draws other bits: not used", type(module).__name__)
            return None
        known.fingerprint = known.fingerprint or fingerprint
        gain = self._gain(run, lambda: recording.run(call))
        log.info("A graph of %s rows takes 1/%.2f of the time", call.bucket or "all", gain)
        return recording if gain >= self._least_gain else None

    def _gain(self, plain: Callable[[], Any], replay: Callable[[], Any]) -> float:
        """How many times faster the replay is; interleaved, the faster of two each."""
        seconds = [self._seconds(run) for run in (plain, replay, replay, plain)]
        return min(seconds[0], seconds[3]) / min(seconds[1:3])

    def _seconds(self, run: Callable[[], Any]) -> float:
        self._recorder.wait()
        started = time.perf_counter()
        run()
        self._recorder.wait()
        return time.perf_counter() - started

    def _drop_oldest(self) -> None:
        """Throw away what was not used for longest; a module without any needs a new pool."""
        kinds = [kind for known in self._known.values() for kind in known.recorded]
        kinds.sort(key=lambda kind: kind.used)
        for kind in kinds[: -self._most]:
            kind.recording, kind.calls = None, 0
        for known in self._known.values():
            if not known.recorded:
                known.pool = known.fingerprint = None


def _living(module: ref[nn.Module]) -> nn.Module:
    alive = module()
    assert alive is not None  # whoever makes the call has it
    return alive
