"""Progress: what is published reaches who waits, and finished jobs tell it from their row."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import datetime, timezone

import pytest
from small_studio import ANNA, make_request

from studio.jobs import Job, JobState
from studio.progress import FINAL_VERSION, WATCHED_S, Progress, ProgressBoard, progress_of


def make_progress(step: int = 0) -> Progress:
    return Progress(job_id="j", state=JobState.RUNNING, step=step)


def test_each_publish_gets_a_new_version() -> None:
    board = ProgressBoard()
    board.publish(make_progress(1))
    first = board.get("j")
    board.publish(make_progress(2))
    second = board.get("j")
    assert first is not None and second is not None
    assert (first.version, second.version, second.step) == (1, 2, 2)


def test_waiting_ends_with_the_next_publish() -> None:
    board = ProgressBoard()
    board.publish(make_progress(1))
    threading.Timer(0.05, lambda: board.publish(make_progress(2))).start()
    news = board.wait_for_change("j", after_version=1, timeout_s=5)
    assert news is not None and news.step == 2


def test_waiting_ends_when_the_job_does() -> None:
    board = ProgressBoard()
    board.publish(make_progress(1))
    threading.Timer(0.05, lambda: board.remove("j")).start()
    assert board.wait_for_change("j", after_version=1, timeout_s=5) is None


def test_waiting_ends_when_time_is_up() -> None:
    board = ProgressBoard()
    board.publish(make_progress(1))
    started = time.monotonic()
    news = board.wait_for_change("j", after_version=1, timeout_s=0.05)
    assert news is not None and news.version == 1
    assert time.monotonic() - started < 10


def test_a_version_from_another_life_of_the_server_is_news() -> None:
    board = ProgressBoard()
    board.publish(make_progress(1))
    assert board.wait_for_change("j", after_version=99, timeout_s=5) is not None


def test_many_watchers_see_the_last_step() -> None:
    board = ProgressBoard()
    board.publish(make_progress(0))
    seen: list[int] = []

    def watch() -> None:
        progress = board.get("j")
        while progress is not None and progress.step < 200:
            progress = board.wait_for_change("j", progress.version, 5)
        seen.append(progress.step if progress else -1)

    watchers = [threading.Thread(target=watch) for _ in range(20)]
    for watcher in watchers:
        watcher.start()
    for step in range(1, 201):
        board.publish(make_progress(step))
    for watcher in watchers:
        watcher.join()
    assert seen == [200] * 20


@pytest.mark.parametrize("state", JobState)
def test_a_row_alone_tells_its_progress(state: JobState) -> None:
    job = Job(
        id="j",
        owner=ANNA,
        request=make_request(num_images=3),
        state=state,
        created_at=datetime.now(timezone.utc),
    )
    progress = progress_of(job)
    assert (progress.state, progress.num_images, progress.total_steps) == (state, 3, 4)
    assert (progress.version == FINAL_VERSION) is not state.is_active
    if state is JobState.DONE:
        assert (progress.step, progress.image_index) == (4, 2)
    assert progress_of(replace(job, error="It broke.")).message == "It broke."


def test_who_looks_or_waits_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    board = ProgressBoard()
    board.publish(make_progress())
    assert not board.is_watched("j")
    board.wait_for_change("j", after_version=-1, timeout_s=0)
    assert board.is_watched("j")
    later = time.monotonic() + 2 * WATCHED_S
    monkeypatch.setattr("studio.progress.time.monotonic", lambda: later)
    assert not board.is_watched("j")
    board.remove("j")
    assert not board.is_watched("j")
