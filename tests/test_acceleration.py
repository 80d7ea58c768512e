"""The tiers of acceleration, and compiled denoisers against the plain ones, on the CPU."""

from __future__ import annotations

import gc
import shutil
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any
from weakref import ref

import pytest
import torch
from denoiser_calls import Repeater, add_lora, arguments, small_unet, swap_one_weight
from diffusers import FluxTransformer2DModel
from torch import nn

from pipelines.acceleration import allow_tf32, pick_denoise
from pipelines.compiling import Compiling
from pipelines.graphs import PATIENCE, Graphs
from pipelines.stepping import call_plainly
from studio.errors import InvalidRequest
from studio.settings import Settings


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.no_grad():
        yield


@pytest.fixture
def unet() -> nn.Module:
    return small_unet()


class Compiler:
    """Traces as torch.compile does, and counts how often what it made is called."""

    def __init__(self) -> None:
        self.graphs = 0
        self.calls = 0
        self.threads: set[str] = set()
        self.wait: Callable[[], None] = lambda: None
        self.factor = 1.0

    def __call__(self, graph: torch.fx.GraphModule, given: Any) -> Callable[..., Any]:
        self.threads.add(threading.current_thread().name)
        self.graphs += 1
        self.wait()

        def run(*args: Any) -> Any:
            self.calls += 1
            return [output * self.factor for output in graph.forward(*args)]

        return run


@pytest.fixture
def compiler() -> Compiler:
    return Compiler()


@pytest.fixture
def compiling(compiler: Compiler) -> Compiling:
    return Compiling(
        call_plainly, torch.device("cpu"), threading.RLock(), patience=2, backend=compiler
    )


def finish(compiling: Compiling) -> None:
    while compiling.is_busy:
        time.sleep(0.01)


def compile_kind(compiling: Compiling, module: nn.Module, **named: Any) -> None:
    for seed in range(3):
        compiling(module, (), arguments(**{"seed": seed, **named}))
    finish(compiling)


def assert_close(compiling: Compiling, module: nn.Module, **named: Any) -> None:
    given = arguments(**named)
    drawn, expected = compiling(module, (), given)[0], module(**given)[0]
    torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-5)


def test_a_compiled_twin_takes_over(
    compiling: Compiling, compiler: Compiler, unet: nn.Module
) -> None:
    """In a thread of its own, for the kinds it was compiled for, and for several of them."""
    compile_kind(compiling, unet)
    before = compiler.calls
    assert_close(compiling, unet, seed=5)
    assert compiler.calls == before + 1
    assert_close(compiling, unet, side=16)
    assert compiler.calls == before + 1
    compile_kind(compiling, unet, side=16)
    assert_close(compiling, unet, side=16, seed=6)
    assert_close(compiling, unet, seed=7)
    assert compiler.graphs == 2
    assert compiler.calls == before + 4
    assert compiler.threads == {"croquis-compile"}


def test_drawing_goes_on_while_it_compiles(
    compiling: Compiling, compiler: Compiler, unet: nn.Module
) -> None:
    done = threading.Event()
    compiler.wait = lambda: assert_set(done)
    for seed in range(6):
        call_through(compiling, unet, seed)
    assert compiling.is_busy
    done.set()
    finish(compiling)
    assert_close(compiling, unet)
    assert compiler.calls == 2


def assert_set(event: threading.Event) -> None:
    assert event.wait(60)


def call_through(compiling: Compiling, module: nn.Module, seed: int) -> None:
    given = arguments(seed=seed)
    assert torch.equal(compiling(module, (), given)[0], module(**given)[0])


def test_many_rows_are_filled_up_for_the_twin(
    compiling: Compiling, compiler: Compiler, unet: nn.Module
) -> None:
    compile_kind(compiling, unet, rows=5, timestep=torch.ones(5))
    assert_close(compiling, unet, rows=6, timestep=torch.arange(6.0))
    assert_close(compiling, unet, rows=5, timestep=torch.arange(5.0), seed=4)
    assert (compiler.graphs, compiler.calls) == (1, 3)


def test_a_twin_that_draws_something_else_is_not_used(
    compiling: Compiling, compiler: Compiler, unet: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    compiler.factor = 1.1
    compile_kind(compiling, unet)
    for seed in range(3):
        call_through(compiling, unet, seed)
    assert compiler.calls == 1
    assert caplog.text.count("differs by 10.0%") == 1


def test_what_cannot_be_compiled_is_called_for_ever(
    compiling: Compiling, compiler: Compiler, unet: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("no C++ compiler")

    compiler.wait = fail
    compile_kind(compiling, unet)
    for module in (unet, small_unet()):
        for seed in range(4):
            call_through(compiling, module, seed)
    finish(compiling)
    assert compiler.graphs == 1
    assert caplog.text.count("is not compiled") == 1


def test_a_twin_that_fails_later_costs_one_line(
    compiling: Compiling, compiler: Compiler, unet: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    compile_kind(compiling, unet)
    compiler.factor = "broken"  # type: ignore[assignment]
    for seed in range(4):
        call_through(compiling, unet, seed)
    assert caplog.text.count("is not compiled") == 1


@pytest.mark.parametrize("change", [add_lora, swap_one_weight])
def test_a_changed_module_leaves_its_twin(
    compiling: Compiling, compiler: Compiler, unet: nn.Module, change: Callable[[Any], None]
) -> None:
    compile_kind(compiling, unet)
    change(unet)
    call_through(compiling, unet, 3)
    assert compiler.calls == 1


def test_a_freed_module_takes_its_twin_along(compiling: Compiling) -> None:
    unet = small_unet()
    compile_kind(compiling, unet)
    [known] = compiling._known.values()
    twin = ref(known.twin.conv_in.weight)  # type: ignore[union-attr, arg-type]
    del unet, known
    gc.collect()
    assert twin() is None


def test_of_a_transformer_the_blocks_are_compiled(compiling: Compiling, compiler: Compiler) -> None:
    """All of a class by one compilation."""
    flux = flux_transformer()
    given = flux_arguments()
    for _ in range(3):
        compiling(flux, (), given)
    finish(compiling)
    expected = flux(**given)[0]
    torch.testing.assert_close(compiling(flux, (), given)[0], expected, rtol=1e-4, atol=1e-5)
    assert compiler.graphs == 2
    assert compiler.calls == 2 * 4


def flux_transformer() -> nn.Module:
    """Two double and two single blocks."""
    torch.manual_seed(0)
    return FluxTransformer2DModel(
        in_channels=4,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 4, 8),
    ).eval()


def flux_arguments() -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(1, 16, 4),
        "encoder_hidden_states": torch.randn(1, 3, 8),
        "pooled_projections": torch.randn(1, 8),
        "timestep": torch.tensor([0.5]),
        "img_ids": torch.zeros(16, 3),
        "txt_ids": torch.zeros(3, 3),
        "return_dict": False,
    }


def test_a_compiled_twin_is_recorded(compiler: Compiler, unet: nn.Module) -> None:
    quiet, recorder = threading.RLock(), Repeater()
    graphs = Graphs(recorder, quiet, least_gain=0)
    compiling = Compiling(graphs, recorder.device, quiet, patience=2, backend=compiler)
    compile_kind(compiling, unet)
    for seed in range(PATIENCE + 1):
        assert_close(compiling, unet, seed=seed)
    before = recorder.replays
    assert_close(compiling, unet, seed=9)
    assert recorder.replays == before + 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")
def test_inductor_comes_to_the_same(unet: nn.Module) -> None:
    compiling = Compiling(call_plainly, torch.device("cpu"), threading.RLock(), patience=2)
    compile_kind(compiling, unet)
    [known] = compiling._known.values()
    assert all(kind.buffers is not None for kind in known.kinds.values())
    assert_close(compiling, unet, seed=8)


@pytest.mark.parametrize(
    ("choice", "device", "expected"),
    [
        ("auto", "cpu", types.FunctionType),
        ("auto", "mps", types.FunctionType),
        ("eager", "cuda", types.FunctionType),
        ("auto", "cuda:1", Graphs),
        ("graphs", "cuda", Graphs),
        ("compile", "cuda", Compiling),
        ("compile", "cpu", Compiling),
    ],
)
def test_the_tier_is_picked(choice: str, device: str, expected: type) -> None:
    assert type(pick_denoise(Settings(acceleration=choice), device)) is expected


def test_graphs_on_a_cpu_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="only CUDA has"):
        pick_denoise(Settings(acceleration="graphs"), "cpu")


def test_tf32_is_a_choice() -> None:
    """torch's own default allows it for convolutions."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (products.allow_tf32, convolutions.allow_tf32)
    try:
        for choice in (True, False):
            allow_tf32(Settings(tf32=choice))
            assert (products.allow_tf32, convolutions.allow_tf32) == (choice, choice)
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before
