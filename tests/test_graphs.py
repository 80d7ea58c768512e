"""Replayed denoisers, against the plain ones: real tiny U-Nets, on the CPU.

There is no CUDA graph on a CPU: what records here makes the recorded call again, in the same fixed
memory. So all but the capture itself is what runs on a GPU; the rest is in test_gpu_engine.py.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any
from weakref import ref

import pytest
import torch
from denoiser_calls import Repeater, add_lora, arguments, move, sample, swap_one_weight
from tiny_families import parts
from torch import nn

from pipelines.graphs import PATIENCE, Graphs
from pipelines.stepping import call_plainly

RECORDED = PATIENCE + 1
"""Calls until a kind is replayed."""


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
