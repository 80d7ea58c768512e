"""torch.compile of denoisers: in a thread beside the drawing, swapped in once it is ready.

Compiling one shape takes a minute, and draws other last bits: so it is for a host to choose, and
only what is called often is compiled. The model itself stays as it is: a twin of it is compiled,
which has the same weights. A U-Net is compiled as a whole, as convolutions are most of it; of other
denoisers only the blocks that repeat, which takes a fraction of the time.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from pipelines.buffers import Buffers, Call, NotFixed, first_rows, read_call, relative_error
from pipelines.device import is_out_of_memory
from pipelines.fingerprint import Fingerprint
from pipelines.stepping import Denoise
from pipelines.twins import twin_of

PATIENCE = 100
"""Calls of a kind before it is compiled."""
MOST_ERROR = 0.03
"""Of the size of the output: bfloat16 comes to a third of it. More is not the same picture."""
MOST_SHAPES = 64
"""Of one module that are compiled."""
MOST_KINDS = 256
"""Kinds of calls of one module that are remembered."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Kind:
    """What is known of the calls of one key."""

    calls: int = 0
    buffers: Buffers | None = None
    """Where rows are filled up; there once it is compiled."""


@dataclass(slots=True)
class _Known:
    """What is known of one module, as long as it stays as it is."""

    fingerprint: Fingerprint | None = None
    """From the first compilation on."""
    twin: nn.Module | None = None
    kinds: dict[Hashable, _Kind] = field(default_factory=dict)


class Compiling:
    """Makes calls by compiled twins where there are any. For one thread.

    A module that is freed takes its twin along; one that was moved or changed is compiled anew.

    Args:
        denoise: makes the calls, also those of twins.
        device: where the denoisers are.
        quiet: held while compiling, and for each call of a twin.
        patience: calls of a kind before it is compiled.
        backend: of `torch.compile`.
    """

    def __init__(
        self,
        denoise: Denoise,
        device: torch.device,
        quiet: threading.RLock,
        *,
        patience: int = PATIENCE,
        backend: str | Callable[..., Any] = "inductor",
    ) -> None:
        self._denoise = denoise
        self._device = device
        self._quiet = quiet
        self._patience = patience
        self._backend = backend
        self._known: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()
        self._failed: set[type[nn.Module]] = set()
        self._work: threading.Thread | None = None

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A `Denoise`."""
        call = self._read(module, args, kwargs)
        if call is None:
            return self._denoise(module, args, kwargs)
        known = self._known_of(module)
        kind = _kind_of(known, call)
        if kind.buffers is not None and self._quiet.acquire(blocking=False):
            try:
                return self._by_twin(known, kind.buffers, call)
            except Exception as exc:
                if is_out_of_memory(exc):
                    raise
                self._give_up(type(module), exc)
            finally:
                self._quiet.release()
        output = self._denoise(module, args, kwargs)
        if kind.calls > self._patience and kind.buffers is None and not self.is_busy:
            self._begin(module, known, kind, call, output)
        return output

    @property
    def is_busy(self) -> bool:
        """Whether something is compiled now."""
        return self._work is not None and self._work.is_alive()

    def _read(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Call | None:
        if type(module) in self._failed or module.training or torch.is_grad_enabled():
            return None
        try:
            return read_call(module, args, kwargs, self._device)
        except NotFixed:
            return None

    def _known_of(self, module: nn.Module) -> _Known:
        known = self._known.get(module)
        if known is None or not (known.fingerprint is None or known.fingerprint.fits()):
            known = self._known[module] = _Known()
        return known

    def _by_twin(self, known: _Known, buffers: Buffers, call: Call) -> Any:
        """The call by the compiled twin; plainly by it should something be new to it after all."""
        assert known.twin is not None
        args, kwargs = call.args, call.kwargs
        if call.is_filled_up:
            buffers.fill(call)
            args, kwargs = buffers.args, buffers.kwargs
        with torch.compiler.set_stance("eager_on_recompile"):
            return first_rows(call, self._denoise(known.twin, args, kwargs))

    def _begin(
        self, module: nn.Module, known: _Known, kind: _Kind, call: Call, expected: Any
    ) -> None:
        """Compile in a thread; it holds the weights until it is done."""
        if known.twin is None:
            known.fingerprint = Fingerprint(module)
            if known.fingerprint.is_hooked:
                self._failed.add(type(module))
                return
            known.twin = self._twin(module)
        buffers, threads, its_class = Buffers(call), torch.get_num_threads(), type(module)

        def work() -> None:
            torch.set_num_threads(threads)  # compiled code is bound to their number
            try:
                with self._quiet, torch.no_grad():
                    _compile(known, kind, call, buffers, expected)
            except Exception as exc:
                self._give_up(its_class, exc)

        self._work = threading.Thread(target=work, name="croquis-compile", daemon=True)
        self._work.start()

    def _twin(self, module: nn.Module) -> nn.Module:
        twin = twin_of(module)
        options = {"dynamic": False, "backend": self._backend}
        if getattr(twin, "_repeated_blocks", None) and not isinstance(twin, UNet2DConditionModel):
            twin.compile_repeated_blocks(**options, **_limits(isolate=False))
        else:
            twin.compile(**options, **_limits(isolate=True))
        return twin

    def _give_up(self, its_class: type[nn.Module], error: Exception) -> None:
        """Call all modules of a class plainly from now on."""
        self._failed.add(its_class)
        reason = str(error).strip().partition("\n")[0]
        log.warning("%s is not compiled: %s", its_class.__name__, reason or type(error).__name__)


def _kind_of(known: _Known, call: Call) -> _Kind:
    """What is known of this kind of call; the call is counted."""
    if call.key not in known.kinds and len(known.kinds) >= MOST_KINDS:
        known.kinds = {key: one for key, one in known.kinds.items() if one.buffers}
    kind = known.kinds.setdefault(call.key, _Kind())
    kind.calls += 1
    return kind


def _compile(known: _Known, kind: _Kind, call: Call, buffers: Buffers, expected: Any) -> None:
    """Let the twin meet a call of this kind, and use it for them if it comes to the same."""
    assert known.twin is not None
    started = time.perf_counter()
    output = first_rows(call, known.twin(*buffers.args, **buffers.kwargs))
    error = relative_error(output, expected)
    if not error <= MOST_ERROR:
        raise ArithmeticError(f"what it draws differs by {error:.1%}")
    kind.buffers = buffers
    seconds = time.perf_counter() - started
    log.info(
        "%s rows of %s were compiled in %.0f s", call.bucket, type(known.twin).__name__, seconds
    )


def _limits(*, isolate: bool) -> dict[str, Any]:
    """Options that let a module have many shapes; older versions of torch have one limit for all.

    Blocks of one class share what was compiled for the first of them, and so are not isolated.
    """
    known = inspect.signature(torch.compile).parameters
    wanted = {"recompile_limit": MOST_SHAPES, "isolate_recompiles": isolate}
    return wanted if wanted.keys() <= known.keys() else {}
