"""Sketches: one newest wish of each visitor, turns between visitors, nothing kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_studio import ANNA, BERT, CLEO, Scribbler, make_catalogue, make_request, open_studio

from studio.errors import Cancelled, CroquisError, InvalidRequest, ModelUnavailable, QueueFull
from studio.fast_models import find_fast, is_fast
from studio.sketches import Sketch, Sketches

SOON_S = 30.0
"""What a busy machine may take for what needs no time."""


def wish(text: str) -> object:
    return make_request(prompt=text, model="builtin-fast", scheduler="euler_trailing")


def ask(sketches: Sketches, owner: str, text: str) -> Sketch:
    return sketches.ask(owner, wish(text))  # type: ignore[arg-type]


def take(sketches: Sketches) -> Sketch:
    taken = sketches.take()
    assert taken is not None
    return taken


class Artist(threading.Thread):
    """Draws sketches in steps until it is told to stop, asking before each as the engine does."""

    def __init__(self, sketches: Sketches, steps: int = 4, step_s: float = 0.005) -> None:
        super().__init__(daemon=True)
        self.sketches, self.steps, self.step_s = sketches, steps, step_s
        self.begun: list[str] = []
        self.dropped: list[str] = []
        self.delivered: list[str] = []
        self.closing = threading.Event()

    def run(self) -> None:
        while not self.closing.is_set():
            sketch = self.sketches.take()
            if sketch is None:
                time.sleep(0.001)
                continue
            self.begun.append(sketch.request.prompt)
            self.draw(sketch)

    def draw(self, sketch: Sketch) -> None:
        for _ in range(self.steps):
            if self.sketches.is_stale(sketch):
                self.dropped.append(sketch.request.prompt)
                self.sketches.fail(sketch, Cancelled("Stopped."))
                return
            time.sleep(self.step_s)
        self.delivered.append(sketch.request.prompt)
        self.sketches.deliver(sketch, sketch.request.prompt.encode())

    def __enter__(self) -> Artist:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.join()


def test_a_sketch_reaches_who_waits_for_it() -> None:
    sketches = Sketches(limit=9)
    with Artist(sketches):
        asked = ask(sketches, ANNA, "a cat")
        assert sketches.wait(asked, SOON_S) == b"a cat"
    assert sketches.take() is None


def test_who_waits_is_told_when_time_is_up() -> None:
    sketches = Sketches(limit=9)
    assert sketches.wait(ask(sketches, ANNA, "a cat"), 0.01) is None


def test_a_newer_wish_takes_the_place_of_the_older_one() -> None:
    sketches = Sketches(limit=9)
    older, newer = ask(sketches, ANNA, "a ca"), ask(sketches, ANNA, "a cat")
    with pytest.raises(Cancelled, match="newer"):
        sketches.wait(older, 0)
    assert take(sketches) is newer
    assert sketches.take() is None


def test_the_same_wish_again_is_not_begun_anew() -> None:
    sketches = Sketches(limit=9)
    asked = ask(sketches, ANNA, "a cat")
    assert ask(sketches, ANNA, "a cat") is asked
    taken = take(sketches)
    assert ask(sketches, ANNA, "a cat") is taken is asked
    sketches.deliver(asked, b"1")
    assert ask(sketches, ANNA, "a cat") is not asked


def test_a_wish_under_way_is_dropped_before_its_next_step() -> None:
    sketches = Sketches(limit=9, finish_s=0)
    with Artist(sketches, steps=1000, step_s=0.002) as artist:
        older = ask(sketches, ANNA, "a ca")
        while not artist.begun:
            time.sleep(0.001)
        artist.steps = 2
        newer = ask(sketches, ANNA, "a cat")
        assert sketches.wait(newer, SOON_S) == b"a cat"
        with pytest.raises(Cancelled):
            sketches.wait(older, 0)
    assert artist.dropped == ["a ca"]


def test_a_young_sketch_is_finished_before_a_newer_one() -> None:
    sketches = Sketches(limit=9, finish_s=SOON_S)
    older = ask(sketches, ANNA, "a ca")
    assert take(sketches) is older
    newer = ask(sketches, ANNA, "a cat")
    assert not sketches.is_stale(older)
    assert sketches.take() is None  # one of a visitor at a time
    sketches.deliver(older, b"1")
    assert sketches.wait(older, 0) == b"1"
    assert take(sketches) is newer


def test_who_types_all_the_time_sees_sketches() -> None:
    sketches, seen = Sketches(limit=9), []

    def look(asked: Sketch) -> None:
        try:
            seen.append(sketches.wait(asked, SOON_S))
        except Cancelled:
            seen.append(None)

    with Artist(sketches, steps=4, step_s=0.01) as artist:
        lookers = []
        for number in range(40):
            asked = ask(sketches, ANNA, f"a cat {number}")
            lookers.append(threading.Thread(target=look, args=(asked,)))
            lookers[-1].start()
            time.sleep(0.01)
        for looker in lookers:
            looker.join()
    drawn = [picture for picture in seen if picture]
    assert len(drawn) >= 3
    assert len(drawn) + seen.count(None) == 40
    assert seen.count(None) >= 10  # never begun, or dropped
    assert artist.begun[-1] == "a cat 39"
    assert b"a cat 39" in drawn


def test_who_types_all_the_time_sees_slow_sketches_too() -> None:
    sketches = Sketches(limit=9, finish_s=0.05)
    with Artist(sketches, steps=4, step_s=0.1) as artist:  # eight times as long
        ends = time.monotonic() + SOON_S
        while not artist.delivered and time.monotonic() < ends:
            ask(sketches, ANNA, f"a cat at {time.monotonic()}")
            time.sleep(0.01)
    assert artist.delivered
    assert 2 <= len(artist.dropped) <= 6  # each may take twice as long as the one before


def test_visitors_take_turns_and_keep_their_place() -> None:
    sketches = Sketches(limit=9)
    for owner in (ANNA, BERT, CLEO):
        ask(sketches, owner, f"first of {owner[0]}")
    ask(sketches, BERT, "better of b")
    served = []
    for _ in range(3):
        served.append(take(sketches))
        ask(sketches, ANNA, f"one more of a {len(served)}")
    assert [one.owner for one in served] == [ANNA, BERT, CLEO]
    assert served[1].request.prompt == "better of b"


def test_one_that_may_not_be_taken_holds_up_nobody() -> None:
    sketches = Sketches(limit=9)
    refused, other = ask(sketches, ANNA, "a cat"), ask(sketches, BERT, "a dog")
    assert sketches.take(lambda sketch: sketch.owner != ANNA) is other
    assert take(sketches) is refused


def test_calling_off_forgets_both_wishes_of_a_visitor() -> None:
    sketches = Sketches(limit=9)
    begun = ask(sketches, ANNA, "a ca")
    assert take(sketches) is begun
    waiting, other = ask(sketches, ANNA, "a cat"), ask(sketches, BERT, "a dog")
    sketches.call_off(ANNA)
    assert sketches.is_stale(begun)
    for called_off in (begun, waiting):
        with pytest.raises(Cancelled):
            sketches.wait(called_off, 0)
    assert take(sketches) is other
    sketches.deliver(begun, b"late")  # changes nothing any more
    with pytest.raises(Cancelled):
        sketches.wait(begun, 0)


def test_a_failure_reaches_who_waits_and_ends_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sketches = Sketches(limit=9)
    for error, said in ((ModelUnavailable("gone"), "gone"), (KeyError("x"), "went wrong")):
        asked = ask(sketches, ANNA, "a cat")
        sketches.fail(take(sketches), error)
        with pytest.raises(CroquisError, match=said):
            sketches.wait(asked, 0)
    assert [record.exc_info is not None for record in caplog.records] == [True]
    assert ask(sketches, ANNA, "a cat") is take(sketches)


def test_the_limit_counts_visitors() -> None:
    sketches = Sketches(limit=2)
    ask(sketches, ANNA, "a cat")
    ask(sketches, BERT, "a dog")
    with pytest.raises(QueueFull, match="2 visitors wait"):
        ask(sketches, CLEO, "a cow")
    assert ask(sketches, ANNA, "another cat") is take(sketches)
    ask(sketches, CLEO, "a cow")


def test_closing_tells_whoever_waits() -> None:
    sketches = Sketches(limit=9)
    asked, told = ask(sketches, ANNA, "a cat"), threading.Event()

    def look() -> None:
        with pytest.raises(Cancelled):
            sketches.wait(asked, SOON_S)
        told.set()

    looker = threading.Thread(target=look)
    looker.start()
    sketches.close()
    looker.join()
    assert told.is_set()
    with pytest.raises(Cancelled):
        sketches.wait(ask(sketches, BERT, "a dog"), 0)
    assert sketches.take() is None


# With the studio


def test_a_sketch_wakes_an_engine_that_sleeps(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        slept = woken_after(lambda: studio.live.ask(wish("a cat"), ANNA), studio.take)  # type: ignore[arg-type]
        assert slept < SOON_S
        sketch = take(studio.sketches)
        assert studio.take(0.01) is None  # one wish wakes once
        studio.live.ask(replace(sketch.request, prompt="a dog"), ANNA)
        assert studio.take(0) is None
        slept = woken_after(lambda: studio.sketches.deliver(sketch, b"1"), studio.take)
        assert slept < SOON_S  # the newer wish may be begun now


def woken_after(does: Callable[[], object], take: Callable[[float], object]) -> float:
    """Seconds that an engine sleeps which takes jobs, where something is done meanwhile."""
    timer = threading.Timer(0.1, does)
    timer.start()
    began = time.monotonic()
    assert take(2 * SOON_S) is None
    timer.join()
    return time.monotonic() - began


def test_a_job_is_taken_though_the_engine_was_woken(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio, Scribbler(studio) as scribbler:
        for number in range(5):
            studio.live.ask(wish(f"a cat {number}"), ANNA)  # type: ignore[arg-type]
            job = studio.submit(make_request(), BERT)
        deadline = time.monotonic() + SOON_S
        while studio.job(job.id, BERT).is_active and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(scribbler.taken) == 5


def test_sketches_are_refused_as_jobs_are_and_nothing_is_kept(tmp_path: Path) -> None:
    with open_studio(tmp_path, owner_queue_limit=1) as studio:
        for wrong in ({"width": 512}, {"num_inference_steps": 0}, {"model": "gone"}):
            with pytest.raises(InvalidRequest):
                studio.live.ask(make_request(**wrong), ANNA)
        with pytest.raises(InvalidRequest, match="owner"):
            studio.live.ask(make_request(), "../anna")
        asked = studio.live.ask(make_request(seed=-1), ANNA)
        assert asked.request.seed >= 0
        studio.sketches.deliver(take(studio.sketches), b"1")
        assert (studio.jobs(ANNA), studio.pictures(ANNA)) == ([], [])
        studio.submit(make_request(), ANNA)
        with pytest.raises(QueueFull):
            studio.live.ask(make_request(), ANNA)
        assert studio.live.ask(make_request(), BERT).owner == BERT


# Which model


def test_the_model_itself_a_relative_or_the_smallest_draws_sketches() -> None:
    models = make_catalogue().models
    here = {"builtin-fast", "sd-turbo", "sdxl-turbo", "flux1-schnell"}

    def fast(key: str) -> str:
        return find_fast(models[key], models.values(), lambda spec: spec.key in here).key

    assert fast("builtin") == fast("builtin-fast") == "builtin-fast"
    assert fast("sd2") == fast("sd21") == "sd-turbo"
    assert fast("sdxl") == "sdxl-turbo"
    assert fast("sdxl-lightning") == "sdxl-turbo"  # fast, but not on this machine
    assert fast("flux1-dev") == "flux1-schnell"
    assert fast("karlo") == fast("qwen-image") == "builtin-fast"
    here.clear()
    with pytest.raises(ModelUnavailable, match="Models"):
        fast("builtin")


def test_every_fast_model_draws_from_words_in_one_call() -> None:
    fast = {key for key, spec in make_catalogue().models.items() if is_fast(spec)}
    assert {"builtin-fast", "sd-turbo", "sdxl-lightning", "flux1-schnell", "lcm"} <= fast
    assert not fast & {"builtin", "sdxl", "dalle-mega", "sd2-inpainting", "if-2"}


def test_the_built_in_model_is_here_at_once(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        assert studio.live.model_for("builtin").key == "builtin-fast"
        assert studio.live.model_for("sdxl").key == "builtin-fast"
        with pytest.raises(InvalidRequest):
            studio.live.model_for("gone")
