"""Picks how denoisers are called on this device: plainly, by CUDA graphs, or compiled."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import torch

from pipelines.compiling import Compiling
from pipelines.graphs import Graphs
from pipelines.recorders import CudaRecorder
from pipelines.stepping import Denoise, call_plainly
from studio.errors import InvalidRequest

if TYPE_CHECKING:
    from studio.settings import Settings


def pick_denoise(settings: Settings, device: str) -> Denoise:
    """Return what makes the calls of denoisers on `device`, for one engine's thread.

    Attention is torch's own (SDPA) in every tier, as diffusers chooses it by itself.

    Raises:
        InvalidRequest: `CROQUIS_ACCELERATION` asks for graphs where there are none.
    """
    is_cuda = device.startswith("cuda")
    if settings.acceleration == "graphs" and not is_cuda:
        raise InvalidRequest(
            f"`CROQUIS_ACCELERATION` asks for graphs, which only CUDA has, but Croquis draws on "
            f"{device}. Leave it at auto."
        )
    if settings.acceleration == "eager":
        return call_plainly
    quiet = threading.RLock()
    recorder = CudaRecorder(device) if is_cuda else None
    graphs: Denoise = Graphs(recorder, quiet) if recorder else call_plainly
    if settings.acceleration == "compile":
        place = recorder.device if recorder else torch.device(device)
        return Compiling(graphs, place, quiet)
    return graphs


def allow_tf32(settings: Settings) -> None:
    """Let CUDA round the factors of float32 products to 10 bits, or forbid it, everywhere.

    torch itself forbids it for matrices, but allows it for convolutions.
    """
    torch.backends.cuda.matmul.allow_tf32 = settings.tf32
    torch.backends.cudnn.allow_tf32 = settings.tf32
