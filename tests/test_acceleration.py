"""Replayed and compiled denoisers, against the plain ones: real tiny U-Nets, on the CPU.

There is no CUDA graph on a CPU: what records here makes the recorded call again, in the same fixed
memory. So all but the capture itself is what runs on a GPU; the rest is in test_gpu_engine.py.
"""

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
from diffusers import FluxTransformer2DModel
from peft import LoraConfig
from tiny_families import parts
from torch import nn

from pipelines.acceleration import allow_tf32, pick_denoise
from pipelines.compiling import Compiling
from pipelines.graphs import PATIENCE, Graphs
from pipelines.stepping import call_plainly
from studio.errors import InvalidRequest
from studio.settings import Settings

RECORDED = PATIENCE + 1
"""Calls until a kind is replayed."""


class Repeater:
    """Makes a call again instead of replaying it, and writes the output where the first is."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.records = 0
        self.replays = 0
        self.room = True
        self.spoil: Callable[[torch.Tensor], None] = lambda sample: None

    def record(self, run: Callable[[], Any], pool: Any) -> tuple[Callable[[], None], Any]:
        self.records += 1
        output = run()

        def replay() -> None:
            self.replays += 1
            sample(output).copy_(sample(run()))
            self.spoil(sample(output))

        return replay, output

    def new_pool(self) -> object:
        return object()

    def has_room(self) -> bool:
        return self.room

    def wait(self) -> None:
        pass


def sample(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output[0]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.no_grad():
        yield


@pytest.fixture
def recorder() -> Repeater:
    return Repeater()


@pytest.fixture
def graphs(recorder: Repeater) -> Graphs:
    """Keeps every recording: here a replay is as slow as the call."""
    return Graphs(recorder, least_gain=0)


@pytest.fixture
def unet() -> nn.Module:
    torch.manual_seed(0)
    return parts.unet()


def arguments(rows: int = 2, side: int = 8, seed: int = 0, **changes: Any) -> dict[str, Any]:
    noise = torch.Generator().manual_seed(seed)
    named = {
        "sample": torch.randn(rows, 4, side, side, generator=noise),
        "timestep": torch.tensor(40 * seed + 1),
        "encoder_hidden_states": torch.randn(rows, 5, parts.HIDDEN, generator=noise),
        "return_dict": False,
    }
    return {**named, **changes}


def call(graphs: Graphs, module: nn.Module, times: int = 1, **named: Any) -> torch.Tensor:
    """Call it so often, with other numbers each time, and compare each with the plain call."""
    for seed in range(times):
        given = arguments(**{"seed": seed, **named})
        drawn = sample(graphs(module, (), given))
        assert torch.equal(drawn, sample(call_plainly(module, (), given)))
    return drawn


def test_a_replay_has_the_bits_of_the_call(
    graphs: Graphs, recorder: Repeater, unet: nn.Module
) -> None:
    call(graphs, unet, RECORDED)
    before = recorder.replays
    call(graphs, unet, 5)
    assert recorder.records == len(graphs) == 1
    assert recorder.replays == before + 5


def test_an_output_is_not_written_over_by_the_next_call(graphs: Graphs, unet: nn.Module) -> None:
    call(graphs, unet, RECORDED)
    first = call(graphs, unet, seed=20)
    kept = first.clone()
    call(graphs, unet, seed=21)
    assert torch.equal(first, kept)


def test_calls_of_all_forms_are_replayed(graphs: Graphs, unet: nn.Module) -> None:
    """By place or by name, with a number for a timestep, with a class for an output."""
    for seed in range(RECORDED + 2):
        given = arguments(seed=seed, timestep=17 * seed)
        placed = (given["sample"], given["timestep"], given["encoder_hidden_states"])
        drawn = graphs(unet, placed, {})
        assert type(drawn) is type(unet(*placed))
        assert torch.equal(drawn.sample, unet(*placed).sample)
    assert len(graphs) == 1


def test_every_shape_dtype_and_constant_is_a_kind_of_its_own(
    graphs: Graphs, unet: nn.Module
) -> None:
    wider = parts.unet().double()
    call(graphs, unet, RECORDED)
    call(graphs, unet, RECORDED, side=16)
    call(graphs, unet, RECORDED, cross_attention_kwargs={})
    call(graphs, unet, RECORDED, timestep=torch.ones(2))
    for seed in range(RECORDED):
        given = arguments(seed=seed)
        words = given["encoder_hidden_states"].double()
        given |= {"sample": given["sample"].double(), "encoder_hidden_states": words}
        assert graphs(wider, (), given)[0].dtype == torch.float64
    assert len(graphs) == 5


def test_many_rows_fill_up_a_bucket(graphs: Graphs, recorder: Repeater, unet: nn.Module) -> None:
    for rows in (5, 6, 5, 6, 5, 6, 5):
        times = torch.arange(rows, dtype=torch.float32)
        given = arguments(rows, seed=rows, timestep=times)
        drawn = graphs(unet, (), given)[0]
        assert drawn.shape == given["sample"].shape
        torch.testing.assert_close(drawn, unet(**given)[0], rtol=1e-4, atol=1e-5)
    assert recorder.records == len(graphs) == 1


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_the_rows_of_one_picture_are_never_filled_up(
    graphs: Graphs, unet: nn.Module, rows: int
) -> None:
    call(graphs, unet, RECORDED + 2, rows=rows)
    assert len(graphs) == 1


def test_what_cannot_be_recorded_is_called(graphs: Graphs, recorder: Repeater) -> None:
    class Free(nn.Module):
        def forward(self, x: Any, *rest: Any) -> torch.Tensor:
            return torch.as_tensor(x).clone()

    free, numbers = Free().eval(), torch.ones(2)
    others = [(numbers, object()), (numbers, {1, 2}), (numbers.to_sparse(),), (numbers.to("meta"),)]
    for args in others:
        for _ in range(RECORDED + 2):
            graphs(free, args, {})
    free.train()
    with torch.enable_grad():
        for _ in range(RECORDED + 2):
            graphs(free, (numbers,), {})
    assert recorder.records == 0


def test_a_module_with_hooks_is_called(graphs: Graphs, recorder: Repeater, unet: nn.Module) -> None:
    seen: list[int] = []
    unet.conv_in.register_forward_hook(lambda *given: seen.append(1))
    call(graphs, unet, RECORDED + 2)
    assert recorder.records == 0
    assert len(seen) == 2 * (RECORDED + 2)


def test_a_freed_module_takes_its_graphs_along(graphs: Graphs, recorder: Repeater) -> None:
    unet = parts.unet()
    weights = ref(unet.conv_in.weight)
    call(graphs, unet, RECORDED)
    assert len(graphs) == 1
    del unet
    gc.collect()
    assert len(graphs) == 0
    assert weights() is None


def add_lora(unet: Any) -> None:
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False), "one")


def move(unet: nn.Module) -> None:
    for weight in unet.parameters():
        weight.data = weight.data.clone()


def swap_one_weight(unet: Any) -> None:
    unet.conv_out.bias = nn.Parameter(unet.conv_out.bias + 1, requires_grad=False)


@pytest.mark.parametrize("change", [add_lora, move, swap_one_weight])
def test_a_changed_module_is_recorded_anew(
    graphs: Graphs, recorder: Repeater, unet: nn.Module, change: Callable[[Any], None]
) -> None:
    call(graphs, unet, RECORDED)
    change(unet)
    call(graphs, unet)
    assert len(graphs) == 0
    call(graphs, unet, RECORDED)
    assert recorder.records == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda unet: unet.set_adapters("one", weights=0.25),
        lambda unet: unet.disable_adapters(),
        lambda unet: unet.delete_adapters("one"),
        lambda unet: unet.fuse_lora(),
    ],
)
def test_a_lora_of_another_weight_is_recorded_anew(
    graphs: Graphs, recorder: Repeater, unet: Any, change: Callable[[Any], None]
) -> None:
    add_lora(unet)
    call(graphs, unet, RECORDED)
    change(unet)
    call(graphs, unet)
    assert len(graphs) == 0


def test_numbers_written_into_a_weight_reach_the_replay(
    graphs: Graphs, recorder: Repeater, unet: Any
) -> None:
    call(graphs, unet, RECORDED)
    unet.conv_out.bias.add_(1)
    call(graphs, unet, 2)
    assert recorder.records == 1


def test_the_oldest_graphs_make_room(recorder: Repeater, unet: nn.Module) -> None:
    graphs = Graphs(recorder, least_gain=0, most=2)
    for side in (4, 8, 16):
        call(graphs, unet, RECORDED, side=side)
    assert len(graphs) == 2
    before = recorder.replays
    call(graphs, unet, side=4)
    assert recorder.replays == before
    call(graphs, unet, side=8)
    assert recorder.replays == before + 1


def test_a_replay_that_gains_nothing_is_not_used(recorder: Repeater, unet: nn.Module) -> None:
    graphs = Graphs(recorder, least_gain=100)
    call(graphs, unet, RECORDED)
    before = recorder.replays
    call(graphs, unet, RECORDED)
    assert (recorder.records, recorder.replays, len(graphs)) == (1, before, 0)


def test_a_replay_with_other_bits_is_not_used(
    graphs: Graphs, recorder: Repeater, unet: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.spoil = lambda output: output.mul_(1 + 1e-6)
    call(graphs, unet, 2 * RECORDED)
    assert recorder.records == 1
    assert "other bits" in caplog.text


def test_a_failed_recording_costs_one_line(
    graphs: Graphs,
    recorder: Repeater,
    unet: nn.Module,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(run: Any, pool: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(recorder, "record", fail)
    call(graphs, unet, 3 * RECORDED)
    assert caplog.text.count("stream is capturing") == 1


def test_without_room_nothing_is_recorded(
    graphs: Graphs, recorder: Repeater, unet: nn.Module
) -> None:
    recorder.room = False
    call(graphs, unet, 2 * RECORDED)
    assert recorder.records == 0


def test_graphs_make_room_for_a_call(graphs: Graphs, unet: nn.Module) -> None:
    class Hungry(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(graphs):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return x + 1

    call(graphs, unet, RECORDED)
    assert graphs(Hungry().eval(), (torch.ones(1),), {}).item() == 2
    assert len(graphs) == 0


def test_nothing_is_recorded_while_another_thread_is_busy(
    recorder: Repeater, unet: nn.Module
) -> None:
    quiet = threading.RLock()
    graphs = Graphs(recorder, quiet, least_gain=0)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with quiet:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    call(graphs, unet, 2 * RECORDED)
    assert recorder.records == 0
    done.set()
    thread.join()
    call(graphs, unet)
    assert recorder.records == 1


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
    for module in (unet, parts.unet()):
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


@pytest.mark.parametrize("change", [add_lora, move, swap_one_weight])
def test_a_changed_module_leaves_its_twin(
    compiling: Compiling, compiler: Compiler, unet: nn.Module, change: Callable[[Any], None]
) -> None:
    compile_kind(compiling, unet)
    change(unet)
    call_through(compiling, unet, 3)
    assert compiler.calls == 1


def test_a_freed_module_takes_its_twin_along(compiling: Compiling) -> None:
    unet = parts.unet()
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


def test_a_compiled_twin_is_recorded(
    recorder: Repeater, compiler: Compiler, unet: nn.Module
) -> None:
    quiet = threading.RLock()
    graphs = Graphs(recorder, quiet, least_gain=0)
    compiling = Compiling(graphs, recorder.device, quiet, patience=2, backend=compiler)
    compile_kind(compiling, unet)
    for seed in range(RECORDED):
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
