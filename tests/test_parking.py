"""Parking: what the budget pushes out waits in RAM, and comes back as it was."""

from __future__ import annotations

import gc
import itertools
import weakref

import psutil
import pytest
import torch
from tiny_families.house import draw_family, family_catalogue, family_request, family_settings

from pipelines.checkpoints import Checkpoint
from pipelines.loader import LoadedModel, Loader
from pipelines.manager import PipelineManager
from pipelines.parking import Parking, can_wait, pick_parking
from studio.settings import Settings

KEYS = ("sd14", "sd2", "sdxl")
SWITCHES = 80
TOLERANCE = 8 * 2**20
"""Bytes by which the process may grow in the last three quarters of them."""


class CountingLoader(Loader):
    """The real loader, which also records what it loaded."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.loaded: list[str] = []

    def load(self, checkpoint: Checkpoint) -> LoadedModel:
        self.loaded.append(checkpoint.spec.key)
        return super().load(checkpoint)


class House:
    """A device with room for one model, and RAM for some more."""

    def __init__(self, ram_bytes: int = 10**9) -> None:
        settings = family_settings(*KEYS)
        self.loader = CountingLoader(settings)
        self.parking = Parking(ram_bytes, device="cpu", ram="cpu")
        self.manager = PipelineManager(
            family_catalogue(settings), self.loader, budget_bytes=1, parking=self.parking
        )

    def draw(self, key: str) -> bytes:
        request = family_request(key, scheduler="euler", num_inference_steps=2)
        [pixels] = draw_family(self.manager, request)
        return pixels.tobytes()

    def use(self, *keys: str) -> None:
        for key in keys:
            with self.manager.borrow(key):
                pass


def size_of(key: str) -> int:
    with House().manager.borrow(key) as loaded:
        return loaded.nbytes


@pytest.mark.parametrize("key", KEYS)
def test_a_model_draws_the_same_bits_after_it_waited(key: str) -> None:
    house = House()
    first = house.draw(key)
    house.use(next(other for other in KEYS if other != key))
    assert house.parking.size_of(key) is not None
    assert house.draw(key) == first
    assert house.loader.loaded.count(key) == 1


def test_what_comes_back_is_new_and_the_old_is_freed() -> None:
    house = House()
    with house.manager.borrow("sd14") as loaded:
        old = [weakref.ref(one) for one in (loaded, loaded.pipeline.unet)]
        weights = {name: weight.clone() for name, weight in loaded.pipeline.unet.named_parameters()}
    del loaded
    house.use("sd2")
    assert all(one() is None for one in old)
    with house.manager.borrow("sd14") as loaded:
        back = dict(loaded.pipeline.unet.named_parameters())
        assert {*back} == {*weights}
        assert all(torch.equal(back[name], weight) for name, weight in weights.items())
        assert all(back[name].stride() == weight.stride() for name, weight in weights.items())
        own = {weight.untyped_storage().data_ptr() for weight in back.values()}
    house.use("sd2")
    with house.manager.borrow("sd14") as again:
        assert again is not loaded and again.pipeline.unet is not loaded.pipeline.unet
        assert {one.untyped_storage().data_ptr() for one in again.pipeline.unet.parameters()} != own


def test_the_copy_stays_so_that_the_next_push_costs_nothing() -> None:
    house = House()
    house.use("sd14", "sd2", "sd14")
    parked = house.parking._kept["sd14"]
    house.use("sd2", "sd14")
    assert house.parking._kept["sd14"] is parked
    assert house.loader.loaded == ["sd14", "sd2"]


def test_the_one_wanted_longest_ago_makes_room() -> None:
    house = House(size_of("sd14") + size_of("sd2") + 1000)
    house.use("sd14", "sd2", "sdxl")
    assert house.parking.size_of("sd14") and house.parking.size_of("sd2")
    house.use("sd14")  # sdxl takes the place of sd2, not of the one that is wanted
    assert house.parking.size_of("sd14") and not house.parking.size_of("sd2")
    assert house.parking.nbytes <= size_of("sd14") + size_of("sd2") + 1000
    assert house.loader.loaded == ["sd14", "sd2", "sdxl"]


def test_what_is_larger_than_the_budget_never_waits() -> None:
    house = House(ram_bytes=1000)
    house.use("sd14", "sd2", "sd14")
    assert house.parking.nbytes == 0
    assert house.loader.loaded == ["sd14", "sd2", "sd14"]


def test_a_model_that_waits_counts_with_its_real_size() -> None:
    house = House()
    house.use("sd14", "sd2")
    with house.manager.borrow("sd2"):
        assert not house.manager.fits("sd14")
    house.manager._budget_bytes = size_of("sd14") + size_of("sd2")
    with house.manager.borrow("sd2"):
        assert house.manager.fits("sd14")
        assert not house.manager.fits("sdxl")  # its table says gigabytes


@pytest.mark.parametrize("how", ["evict", "close"])
def test_nothing_waits_that_is_evicted_by_word_or_after_the_end(how: str) -> None:
    house = House()
    house.use("sd14", "sd2")
    _ = house.manager.evict("sd14") if how == "evict" else house.manager.close()
    assert house.parking.size_of("sd14") is None


def test_what_is_held_part_by_part_does_not_wait_a_second_time() -> None:
    house = House()
    with house.manager.borrow("sd14") as loaded:
        assert can_wait(loaded)
        loaded.pipeline.unet._hf_hook = object()
        assert not can_wait(loaded)
        del loaded.pipeline.unet._hf_hook
        loaded.pipeline.unet.odd = torch.nn.Parameter(torch.zeros(1, 2).expand(3, 2), False)
        assert not can_wait(loaded)
    assert not can_wait(object())


def test_only_a_gpu_has_a_second_place() -> None:
    assert pick_parking("cpu", Settings(ram_budget_gb=1)) is None
    assert pick_parking("mps", Settings(ram_budget_gb=1)) is None
    assert pick_parking("cuda", Settings(ram_budget_gb=0)) is None
    assert pick_parking("cuda", Settings(ram_budget_gb=1.5))._budget_bytes == 1_500_000_000
    assert pick_parking("cuda", Settings())._budget_bytes > 0


def test_switches_through_ram_leave_nothing_behind() -> None:
    gc.collect()
    gc.freeze()
    try:
        house, first, resident = House(), dict[str, bytes](), list[int]()
        for key in itertools.islice(itertools.cycle(KEYS[:2]), SWITCHES):
            if len(resident) % 10 == 0:
                assert first.setdefault(key, house.draw(key)) == house.draw(key)
            house.use(key)
            resident.append(psutil.Process().memory_info().rss)
    finally:
        gc.unfreeze()
    assert house.loader.loaded == [*KEYS[:2]]
    assert resident[-1] - resident[SWITCHES // 4] < TOLERANCE
    assert size_of("sd14") * SWITCHES * 3 // 4 > 4 * TOLERANCE
