"""PipelineManager: one load per model, a budget of bytes, nothing evicted in use."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from greenlet import getcurrent, greenlet
from tiny_house import checkpoint, tiny_catalogue, tiny_manager, tiny_settings

from pipelines.checkpoints import Checkpoint, OnMessage
from pipelines.loader import LoadedModel, Loader
from pipelines.manager import PipelineManager
from studio.errors import Cancelled, ModelUnavailable, UnknownModel


class CountingLoader(Loader):
    """The real loader, which also records what it loaded and can be held up."""

    def __init__(self) -> None:
        super().__init__(tiny_settings())
        self.loaded: list[str] = []
        self.may_load = threading.Event()
        self.may_load.set()

    def load(self, checkpoint: Checkpoint) -> LoadedModel:
        self.loaded.append(checkpoint.spec.key)
        assert self.may_load.wait(60)
        return super().load(checkpoint)


@pytest.fixture
def loader() -> CountingLoader:
    return CountingLoader()


class HeldKeys(set[str]):
    """Keys of the models in memory, by what the manager tells of them."""

    def on_state(self, key: str, state: str) -> None:
        if state == "loaded":
            self.add(key)
        else:
            self.discard(key)


@pytest.fixture
def held() -> HeldKeys:
    return HeldKeys()


def make_manager(
    loader: Loader, budget_bytes: int = 10**9, held: HeldKeys | None = None
) -> PipelineManager:
    told = HeldKeys() if held is None else held
    return PipelineManager(tiny_catalogue(), loader, budget_bytes, told.on_state)


def size_of(key: str) -> int:
    manager = tiny_manager()
    with manager.borrow(key) as loaded:
        return loaded.nbytes


def use(manager: PipelineManager, *keys: str) -> None:
    for key in keys:
        with manager.borrow(key):
            pass


def test_two_threads_that_want_one_model_load_it_once(loader: CountingLoader) -> None:
    manager = make_manager(loader)
    loader.may_load.clear()
    seen: list[LoadedModel] = []

    def borrow() -> None:
        with manager.borrow("mini") as loaded:
            seen.append(loaded)

    threads = [threading.Thread(target=borrow) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    loader.may_load.set()
    for thread in threads:
        thread.join(60)
    assert loader.loaded == ["mini"]
    assert len(seen) == 4
    assert len(set(map(id, seen))) == 1


def test_two_threads_may_load_two_models_at_the_same_time(loader: CountingLoader) -> None:
    manager = make_manager(loader)
    loader.may_load.clear()
    threads = [threading.Thread(target=use, args=(manager, key)) for key in ("mini", "sd2")]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while len(loader.loaded) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    loader.may_load.set()
    for thread in threads:
        thread.join(60)
    for key in ("mini", "sd2"):
        with manager.borrow(key) as loaded:
            assert {weight.device.type for weight in loaded.pipeline.unet.parameters()} == {"cpu"}
    assert sorted(loader.loaded) == ["mini", "sd2"]


def test_the_least_recently_used_goes_first(loader: CountingLoader, held: HeldKeys) -> None:
    manager = make_manager(loader, size_of("mini") + size_of("sd2") + 1000, held)
    use(manager, "mini", "third", "mini", "sd2")
    assert held == {"mini", "sd2"}
    assert loader.loaded == ["mini", "third", "sd2"]


def test_the_budget_holds_after_many_switches(loader: CountingLoader, held: HeldKeys) -> None:
    budget = max(map(size_of, ("mini", "third", "sd2"))) + 1000
    manager = make_manager(loader, budget, held)
    for _ in range(3):
        for key in ("mini", "third", "sd2"):
            use(manager, key)
            assert held == {key}
            assert manager.nbytes <= budget
    assert len(loader.loaded) == 9


def test_what_is_added_to_a_model_makes_idle_ones_go(
    loader: CountingLoader, held: HeldKeys
) -> None:
    manager = make_manager(loader, size_of("mini") + size_of("sd2") + 1000, held)
    use(manager, "sd2")
    with manager.borrow("mini"):
        manager.count_added("mini", 999)
        assert held == {"mini", "sd2"} and manager.nbytes == size_of("mini") + size_of("sd2") + 999
        manager.count_added("mini", 1001)
        assert held == {"mini"} and manager.nbytes == size_of("mini") + 1001
        manager.count_added("mini", 0)
    assert manager.nbytes == size_of("mini")


def test_a_borrowed_model_is_never_evicted(loader: CountingLoader, held: HeldKeys) -> None:
    manager = make_manager(loader, 1, held)
    with manager.borrow("mini"):
        use(manager, "third", "sd2")
        assert "mini" in held
        assert not manager.evict("mini")
    use(manager, "third")
    assert held == {"third"}


def test_a_model_larger_than_the_budget_stays_while_it_is_the_last(
    loader: CountingLoader,
) -> None:
    manager = make_manager(loader, budget_bytes=1)
    use(manager, "mini", "mini", "mini")
    assert loader.loaded == ["mini"]


@pytest.mark.parametrize("how", ["evict", "close"])
def test_eviction_really_frees_the_modules(loader: CountingLoader, how: str) -> None:
    manager = make_manager(loader)
    with manager.borrow("mini") as loaded:
        modules = [weakref.ref(loaded.pipeline.unet), weakref.ref(loaded.pipeline.vae)]
    del loaded
    gc.collect()
    assert all(module() is not None for module in modules)
    _ = manager.evict("mini") if how == "evict" else manager.close()
    assert all(module() is None for module in modules)
    assert manager.nbytes == 0


def test_after_close_nothing_is_lent_and_what_is_out_is_freed_when_it_returns(
    loader: CountingLoader, held: HeldKeys
) -> None:
    manager = make_manager(loader, held=held)
    with manager.borrow("mini"):
        manager.close()
        assert held == {"mini"}
    assert (held, manager.nbytes) == (set(), 0)
    with pytest.raises(Cancelled), manager.borrow("mini"):
        pass


def test_a_failed_load_leaves_no_trace_and_may_be_tried_again(tmp_path: Path) -> None:
    states: list[tuple[str, str]] = []
    settings = tiny_settings({"late": tmp_path / "late"})
    manager = tiny_manager(settings, on_state=lambda key, state: states.append((key, state)))
    with pytest.raises(ModelUnavailable), manager.borrow("late"):
        pass
    assert manager.nbytes == 0
    (tmp_path / "late").symlink_to(checkpoint("mini"))
    use(manager, "late")
    assert states == [
        ("late", "loading"),
        ("late", "unloaded"),
        ("late", "loading"),
        ("late", "loaded"),
    ]


def test_messages_say_what_is_loaded_and_how_large_it_is(loader: CountingLoader) -> None:
    messages: list[str] = []
    manager = make_manager(loader)
    for _ in range(2):
        with manager.borrow("mini", messages.append):
            pass
    assert messages == ["Loading Tiny mini, 1 MB"]


def test_an_unknown_model_is_named(loader: CountingLoader) -> None:
    with pytest.raises(UnknownModel, match="'nope'"), make_manager(loader).borrow("nope"):
        pass


def test_the_model_is_given_back_when_drawing_fails(loader: CountingLoader) -> None:
    manager = make_manager(loader)
    with pytest.raises(ZeroDivisionError), manager.borrow("mini"):
        raise ZeroDivisionError
    assert manager.evict("mini")


def test_works_that_take_turns_on_one_thread_borrow_inside_one_another(
    loader: CountingLoader, held: HeldKeys
) -> None:
    manager = make_manager(loader, 1, held)
    turns: list[str] = []

    def work(*keys: str) -> None:
        with ExitStack() as stack:
            for key in keys:
                stack.enter_context(manager.borrow(key))
                turns.append(key)
                getcurrent().parent.switch()

    works = [greenlet(partial(work, *keys)) for keys in (("mini", "sd2"), ("sd2", "mini"))]
    while works:
        for one in works:
            if not one.dead:
                one.switch()
        works = [one for one in works if not one.dead]
    assert turns == ["mini", "sd2", "sd2", "mini"]
    assert loader.loaded == ["mini", "sd2"]
    assert len(held) == 1


def test_a_load_that_gives_its_turn_away_is_told_instead_of_waited_for_for_ever(
    loader: CountingLoader,
) -> None:
    manager = make_manager(loader)
    first = greenlet(partial(use_with, manager, lambda text: getcurrent().parent.switch()))
    first.switch()
    with pytest.raises(RuntimeError, match="gave its turn away"), manager.borrow("mini"):
        pass
    first.switch()
    assert first.dead and loader.loaded == ["mini"]
    use(manager, "mini")
    assert loader.loaded == ["mini"]


def use_with(manager: PipelineManager, on_message: OnMessage) -> None:
    with manager.borrow("mini", on_message):
        pass
