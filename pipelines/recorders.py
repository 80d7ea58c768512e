"""Records calls on a GPU as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

FREE_SHARE = 0.25
"""Of a GPU's memory that must be free: graphs keep memory for their own activations."""


class Recorder(Protocol):
    """What records on a device."""

    device: torch.device

    def record(self, run: Callable[[], Any], pool: Any) -> tuple[Callable[[], None], Any]:
        """Record a call; how to replay it, and the output, whose memory each replay writes to."""

    def new_pool(self) -> Any:
        """A place for the activations of all recordings of a module."""

    def has_room(self) -> bool:
        """Whether memory is left for one more."""

    def wait(self) -> None:
        """Wait until the device has done what it was told."""


class CudaRecorder:
    """Records on one GPU. For one thread."""

    def __init__(self, device: str) -> None:
        asked = torch.device(device)
        self.device = torch.device("cuda", asked.index or 0)
        self._stream: torch.cuda.Stream | None = None

    def record(self, run: Callable[[], Any], pool: Any) -> tuple[Callable[[], None], Any]:
        """Record a call that was made before, so that all libraries have set themselves up.

        The last warm-up is on the very stream: libraries keep memory for each.
        """
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device):
            stream = self._stream = self._stream or torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                run()
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
                output = run()
        return graph.replay, output

    def new_pool(self) -> Any:
        """One for each module: it goes with the module."""
        return torch.cuda.graph_pool_handle()

    def has_room(self) -> bool:
        """What torch keeps for later counts as free."""
        free, total = torch.cuda.mem_get_info(self.device)
        kept = torch.cuda.memory_reserved(self.device)
        return free + kept - torch.cuda.memory_allocated(self.device) >= FREE_SHARE * total

    def wait(self) -> None:
        """Wait for this GPU only."""
        torch.cuda.synchronize(self.device)
