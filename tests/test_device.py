"""Device: what is picked, and how many cores and bytes a container really has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines import device
from pipelines.device import (
    is_out_of_memory,
    pick_budget,
    pick_device,
    pick_dtype,
    tune_threads,
    usable_cores,
)
from studio.errors import InvalidRequest
from studio.settings import Settings


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(device, "CGROUP", tmp_path)
    return tmp_path


def test_auto_picks_a_device_that_is_there() -> None:
    picked = pick_device(Settings())
    torch.zeros(1, device=picked)
    assert pick_device(Settings(device="cpu")) == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("asked", ["cuda", "cuda:1"])
def test_a_missing_device_is_named(asked: str) -> None:
    with pytest.raises(InvalidRequest, match=f"`CROQUIS_DEVICE` asks for '{asked}'.*only cpu"):
        pick_device(Settings(device=asked))


@pytest.mark.parametrize(
    ("name", "setting", "dtype"),
    [
        ("cuda:1", "auto", torch.float16),
        ("mps", "auto", torch.float32),
        ("cpu", "auto", torch.float32),
        ("cpu", "bfloat16", torch.bfloat16),
    ],
)
def test_dtypes(name: str, setting: str, dtype: torch.dtype) -> None:
    assert pick_dtype(name, Settings(dtype=setting)) == dtype


def test_a_row_may_want_another_dtype_on_a_gpu_alone() -> None:
    assert pick_dtype("cuda", Settings(), "bfloat16") == torch.bfloat16
    assert pick_dtype("cuda", Settings(dtype="float16"), "bfloat16") == torch.float16
    assert pick_dtype("cpu", Settings(), "bfloat16") == torch.float32


def test_the_budget_is_the_setting_or_half_of_the_memory(cgroup: Path) -> None:
    assert pick_budget("cpu", Settings(memory_budget_gb=1.5)) == 1_500_000_000
    assert 10**8 < pick_budget("cpu", Settings()) < 10**14
    (cgroup / "memory.max").write_text("2000000\n")
    assert pick_budget("cpu", Settings()) == 1_000_000
    (cgroup / "memory.max").write_text("max\n")
    assert pick_budget("cpu", Settings()) > 10**8


def test_the_memory_is_known_without_posix(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    expected = pick_budget("cpu", Settings())
    monkeypatch.delattr("os.sysconf")
    assert pick_budget("cpu", Settings()) == expected


@pytest.mark.parametrize(
    ("quota", "cores"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None)]
)
def test_cores_follow_the_containers_quota(cgroup: Path, quota: str, cores: int | None) -> None:
    everywhere = usable_cores()
    (cgroup / "cpu.max").write_text(f"{quota}\n")
    assert usable_cores() == (cores or everywhere)


def test_threads_are_the_setting_or_the_cores(cgroup: Path) -> None:
    before = torch.get_num_threads()
    try:
        assert tune_threads(Settings(cpu_threads=3)) == 3
        assert torch.get_num_threads() == 3
        assert tune_threads(Settings()) == usable_cores()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("shapes cannot be multiplied"), False),
    ],
)
def test_out_of_memory_is_recognised(error: RuntimeError, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_the_cpus_own_words_are_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
