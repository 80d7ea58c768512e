"""Picks the device, the dtype, the memory budget and the number of threads."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

from studio.errors import InvalidRequest

if TYPE_CHECKING:
    from studio.settings import Settings

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
CGROUP = Path("/sys/fs/cgroup")
OUT_OF_MEMORY_WORDS = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
)


def pick_device(settings: Settings) -> str:
    """Return "cuda", "mps" or "cpu": the one asked for, or the fastest that is there.

    Raises:
        InvalidRequest: `CROQUIS_DEVICE` asks for a device that torch does not see.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if settings.device == "auto":
        return next(device for device, is_present in present.items() if is_present)
    if not present.get(settings.device.partition(":")[0], False):
        raise InvalidRequest(
            f"`CROQUIS_DEVICE` asks for {settings.device!r}, but torch {torch.__version__} sees "
            f"only {', '.join(name for name, is_present in present.items() if is_present)}."
        )
    return settings.device


def pick_dtype(device: str, settings: Settings, on_gpu: str = "float16") -> torch.dtype:
    """Return the dtype to hold and run the weights in.

    On cuda that of the model's card: float16 for U-Nets, but bfloat16 for most transformers, whose
    large numbers would overflow to black pictures; float32 on mps, where float16 attention
    has drawn black pictures. float32 on cpu: on one with avx512_bf16, bfloat16 took 0.90 of the
    time for a UNet of 14 million weights at 16 x 16 latents, too little to change the pixels for.
    """
    if settings.dtype != "auto":
        return DTYPES[settings.dtype]
    return DTYPES[on_gpu] if device.startswith("cuda") else torch.float32


def pick_budget(device: str, settings: Settings) -> int:
    """Return how many bytes of weights may stay loaded: the setting, or a share of the memory.

    0.8 of a GPU, the rest being for activations; half of the memory elsewhere.
    """
    if settings.memory_budget_gb is not None:
        return int(settings.memory_budget_gb * 1e9)
    if device.startswith("cuda"):
        return int(0.8 * torch.cuda.get_device_properties(device).total_memory)
    return usable_bytes() // 2


def tune_threads(settings: Settings) -> int:
    """Give torch the cores that this process may really use, and return their number.

    In a container torch counts the cores of the host; more threads than cores make it crawl.
    """
    threads = settings.cpu_threads or usable_cores()
    torch.set_num_threads(threads)
    return threads


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch ran out of memory; often it says so only in words."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in said for words in OUT_OF_MEMORY_WORDS
    )


def release_memory() -> None:
    """Give memory that torch keeps for later back to the device; modules hold cycles."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def usable_cores() -> int:
    """Return the number of cores that affinity and the container's quota leave, at least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def usable_bytes() -> int:
    """The machine's memory, or the container's share of it."""
    machine: int = psutil.virtual_memory().total
    share = _read(CGROUP / "memory.max").strip()
    return min(machine, int(share)) if share.isdigit() else machine


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
