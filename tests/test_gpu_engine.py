"""The tiers of acceleration on a real GPU: `python -m pytest -m gpu`. Random weights, no network.

What a CPU can show is in test_graphs.py and test_acceleration.py.
"""

from __future__ import annotations

import functools
import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from denoiser_calls import add_lora, small_unet, swap_one_weight
from tiny_families import parts
from tiny_house import RecordingWatcher, tiny_catalogue, tiny_manager, tiny_request, tiny_settings
from torch import nn

from pipelines.acceleration import pick_denoise
from pipelines.company import Company
from pipelines.compiling import Compiling
from pipelines.drawing import draw
from pipelines.graphs import PATIENCE, Graphs
from pipelines.knees import Knees
from pipelines.manager import PipelineManager
from pipelines.recorders import CudaRecorder
from pipelines.stepping import Denoise, Stepper, call_plainly
from studio.request import GenerationRequest

pytestmark = pytest.mark.gpu

RECORDED = PATIENCE + 1
SLACK_BYTES = 32 * 2**20
"""What cuBLAS keeps for each stream."""


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def graphs() -> Graphs:
    return Graphs(CudaRecorder("cuda"), least_gain=0)


def wide_unet() -> nn.Module:
    """The topology of SD-2 at a third of its width, in float16."""
    torch.manual_seed(0)
    unet = parts.unet(
        block_out_channels=(96, 192, 384, 384),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        attention_head_dim=(2, 4, 8, 8),
        norm_num_groups=32,
        sample_size=64,
    )
    return unet.to("cuda", torch.float16)


def arguments(rows: int = 2, side: int = 32, seed: int = 0, **changes: Any) -> dict[str, Any]:
    noise = torch.Generator("cuda").manual_seed(seed)
    made = functools.partial(torch.randn, generator=noise, device="cuda", dtype=torch.float16)
    named = {
        "sample": made(rows, 4, side, side),
        "timestep": torch.tensor(40 * seed + 1, device="cuda"),
        "encoder_hidden_states": made(rows, 5, parts.HIDDEN),
        "return_dict": False,
    }
    return {**named, **changes}


def call(denoise: Denoise, module: nn.Module, times: int = 1, **named: Any) -> None:
    """Call it so often, with other numbers each time; every one has the plain call's bits."""
    for seed in range(times):
        given = arguments(**{"seed": seed, **named})
        assert torch.equal(denoise(module, (), given)[0], module(**given)[0])


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 8])
def test_a_replay_has_the_bits_of_the_call(graphs: Graphs, rows: int) -> None:
    unet = wide_unet()
    call(graphs, unet, RECORDED + 4, rows=rows)
    assert len(graphs) == 1


@pytest.mark.parametrize("timestep", [7, 7.0, torch.tensor(7), torch.tensor([7.5])])
def test_timesteps_of_all_kinds(graphs: Graphs, timestep: Any) -> None:
    """Numbers, and tensors that a scheduler keeps in the machine's memory."""
    unet = wide_unet()
    call(graphs, unet, RECORDED + 2, timestep=timestep)
    assert len(graphs) == 1
    call(graphs, unet, 2, timestep=timestep + 400)


def test_graphs_that_share_their_memory_do_not_disturb_each_other(graphs: Graphs) -> None:
    unet = wide_unet()
    for side in (32, 16, 48):
        call(graphs, unet, RECORDED, side=side)
    for _ in range(3):
        for side in (48, 32, 16):
            call(graphs, unet, 2, side=side)
    assert len(graphs) == 3


def test_many_rows_fill_up_a_bucket(graphs: Graphs) -> None:
    unet = wide_unet()
    for rows in (5, 6, 5, 6, 5, 6):
        given = arguments(rows, seed=rows, timestep=torch.arange(rows, device="cuda").float())
        drawn, expected = graphs(unet, (), given)[0], unet(**given)[0]
        torch.testing.assert_close(drawn, expected, rtol=0.02, atol=0.02)
    assert len(graphs) == 1


def test_a_freed_model_leaves_no_memory_behind(graphs: Graphs) -> None:
    call(graphs, small_unet().to("cuda", torch.float16), RECORDED)  # libraries set themselves up
    before = held_bytes()
    unet = wide_unet()
    call(graphs, unet, RECORDED)
    call(graphs, unet, RECORDED, side=48)
    assert len(graphs) == 2
    del unet
    assert len(graphs) == 0
    assert held_bytes() - before < SLACK_BYTES


def held_bytes() -> int:
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved()


def test_graphs_come_and_go_without_growth() -> None:
    graphs = Graphs(CudaRecorder("cuda"), least_gain=0, most=2)
    unet, held = wide_unet(), []
    for _ in range(4):
        for side in (16, 32, 48):
            call(graphs, unet, RECORDED, side=side)
        held.append(held_bytes())
    assert len(graphs) == 2
    assert held[-1] - held[1] < SLACK_BYTES


def move(unet: nn.Module) -> None:
    unet.to("cpu")
    torch.cuda.empty_cache()
    unet.to("cuda")


@pytest.mark.parametrize("change", [add_lora, move, swap_one_weight])
def test_a_changed_module_is_recorded_anew(graphs: Graphs, change: Callable[[Any], None]) -> None:
    unet = wide_unet()
    call(graphs, unet, RECORDED)
    change(unet)
    unet.to("cuda", torch.float16)
    call(graphs, unet)
    assert len(graphs) == 0
    call(graphs, unet, RECORDED + 2)
    assert len(graphs) == 1


def test_a_small_step_gains() -> None:
    """By the measure that the app itself takes."""
    graphs, unet = Graphs(CudaRecorder("cuda")), wide_unet()
    call(graphs, unet, RECORDED, side=16)
    assert len(graphs) == 1


def test_what_cannot_be_captured_is_called(graphs: Graphs) -> None:
    class Asking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) * (1 if x.sum().item() > 0 else -1)

    asking = Asking().to("cuda").eval()
    for _ in range(2 * RECORDED):
        given = torch.randn(2, 4, device="cuda")
        assert torch.equal(graphs(asking, (given,), {}), asking(given))
    assert len(graphs) == 0
    unet = wide_unet()
    call(graphs, unet, RECORDED + 2)  # a capture that failed spoils no other
    assert len(graphs) == 1


@pytest.fixture(scope="module")
def manager() -> PipelineManager:
    return tiny_manager(replace(tiny_settings(), device="cuda"))


def pictures(
    manager: PipelineManager, request: GenerationRequest, company: Company | None = None
) -> list[np.ndarray]:
    scheduler = tiny_catalogue().get_scheduler(request.scheduler)
    with manager.borrow(request.model) as loaded:
        drawn = draw(loaded, scheduler, request, [0], RecordingWatcher(), company=company)
        return [np.asarray(one.image) for one in drawn]


def side_by_side(
    manager: PipelineManager, denoise: Denoise, requests: list[GenerationRequest]
) -> list[np.ndarray]:
    stepper = Stepper(denoise, Eager())
    company = Company(stepper)
    courses = [
        stepper.spawn("anna", functools.partial(pictures, manager, request, company))
        for request in requests
    ]
    while len(stepper):
        stepper.step()
    assert [course.error for course in courses] == [None] * len(courses)
    return [course.value[0] for course in courses]


class Eager(Knees):
    """Joins all that wait."""

    def most_rows(self, kind: str, least: int) -> int:
        return 64


@pytest.mark.parametrize("scheduler", ["euler", "euler_a", "ddim", "dpmpp_2m"])
def test_a_picture_alone_has_the_same_bits(
    manager: PipelineManager, graphs: Graphs, scheduler: str
) -> None:
    request = tiny_request(scheduler=scheduler, num_inference_steps=12)
    [plain] = pictures(manager, request)
    for _ in range(2):
        [drawn] = side_by_side(manager, graphs, [request])
        np.testing.assert_array_equal(drawn, plain)
    assert len(graphs) == 1


def test_pictures_in_company_are_alike(manager: PipelineManager, graphs: Graphs) -> None:
    """Each 40 dB or better from the same picture alone, on 95 % of them."""
    schedulers = ["euler", "euler_a", "ddim", "heun", "dpmpp_2m"]
    requests = [
        tiny_request(seed=seed, scheduler=schedulers[seed % 5], num_inference_steps=8 + seed % 3)
        for seed in range(20)
    ]
    drawn = side_by_side(manager, graphs, requests)
    alike = [
        psnr_db(one, pictures(manager, request)[0]) >= 40
        for one, request in zip(drawn, requests, strict=True)
    ]
    assert sum(alike) >= 19
    assert len(graphs) >= 1


def psnr_db(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def test_the_default_on_cuda_is_graphs() -> None:
    assert isinstance(pick_denoise(tiny_settings(), "cuda"), Graphs)


@pytest.mark.slow
def test_a_compiled_denoiser_is_close_and_is_replayed() -> None:
    """While it compiles, the graphs of the plain one go on."""
    quiet = threading.RLock()
    graphs = Graphs(CudaRecorder("cuda"), quiet, least_gain=0)
    compiling = Compiling(graphs, torch.device("cuda", 0), quiet, patience=2 * RECORDED)
    unet = wide_unet()
    call(compiling, unet, 2 * RECORDED + 1)
    assert len(graphs) == 1
    while compiling.is_busy:
        given = arguments(seed=3)
        assert torch.equal(compiling(unet, (), given)[0], unet(**given)[0])
        time.sleep(0.05)
    for seed in range(2 * RECORDED):
        given = arguments(seed=seed)
        drawn, expected = compiling(unet, (), given)[0], call_plainly(unet, (), given)[0]
        error = (drawn - expected).float().norm() / expected.float().norm()
        assert error < 0.02
    assert len(graphs) == 2
