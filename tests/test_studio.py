"""The studio as a whole: visitors on one side, an engine on the other, and every mishap."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from small_studio import (
    ANNA,
    BERT,
    CLEO,
    Scribbler,
    draw,
    make_request,
    make_studio,
    open_studio,
    scribble,
    wait_for_end,
)
from test_library import files, short_files

from studio.database import Database
from studio.errors import InvalidRequest, NotFound, OutOfMemory, QueueFull, StorageFailed
from studio.job_store import JobStore
from studio.jobs import Job, JobState
from studio.studio import Studio
from ui.watch import Glimpse, watch


def take(studio: Studio) -> Job:
    job = studio.take(1)
    assert job is not None
    return job


def test_previews_are_for_who_looks_not_for_who_asks_how_far_it_is(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        job = studio.submit(make_request(), ANNA)
        take(studio)
        assert studio.progress(job.id, ANNA) == studio.progress(job.id, ANNA)
        with pytest.raises(NotFound):
            studio.look(job.id, "somebody else")
        assert not studio.is_watched(job.id)
        assert studio.look(job.id, ANNA) == studio.progress(job.id, ANNA)
        assert studio.is_watched(job.id)


def test_a_job_from_click_to_picture(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        job = studio.submit(make_request(num_images=2, upscale=4), ANNA)
        assert (job.state, studio.progress(job.id, ANNA).position) == (JobState.QUEUED, 1)
        assert take(studio).state is JobState.LOADING
        studio.report_loading(job.id, "Loading Croquis Mini")
        assert studio.progress(job.id, ANNA).message == "Loading Croquis Mini"
        studio.report_step(job.id, 1, 4, 0, b"jpeg")
        progress = studio.progress(job.id, ANNA)
        assert (progress.state, progress.step, progress.preview) == (JobState.RUNNING, 1, b"jpeg")
        assert (progress.position, progress.message) == (None, "")
        studio.report_step(job.id, 2, 4, 0, None)
        assert studio.progress(job.id, ANNA).preview == b"jpeg"
        assert studio.job(job.id, ANNA).state is JobState.RUNNING
        studio.add_note(job.id, "The prompt was cut.")
        draw(studio, job)
        done = wait_for_end(studio, job)
        assert (done.state, done.notes) == (JobState.DONE, ("The prompt was cut.",))
        pictures = [studio.picture(picture_id, ANNA) for picture_id in done.picture_ids]
        assert [picture.recipe.request.seed for picture in pictures] == [7, 8]
        assert [picture.recipe.request.num_images for picture in pictures] == [1, 1]
        assert pictures[1].width == 256
        restored = studio.read_settings(pictures[1].path)
        assert (restored.dialect, restored.fields["seed"]) == ("Croquis", 8)


def test_a_random_seed_is_drawn_once(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        jobs = [studio.submit(make_request(seed=-1), ANNA) for _ in range(5)]
        seeds = {job.request.seed for job in jobs}
        assert len(seeds) == 5 and min(seeds) >= 0
        assert studio.job(jobs[0].id, ANNA).request.seed == jobs[0].request.seed


def test_seeds_wrap_at_their_limit(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio, Scribbler(studio):
        job = studio.submit(make_request(seed=2**32 - 1, num_images=2), ANNA)
        done = wait_for_end(studio, job)
        pictures = [studio.picture(picture_id, ANNA) for picture_id in done.picture_ids]
        assert [picture.recipe.request.seed for picture in pictures] == [2**32 - 1, 0]


def test_an_impossible_request_is_refused_before_it_is_stored(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        for changes in ({"width": 1024}, {"model": "sd9"}, {"scheduler": "magic"}):
            with pytest.raises(InvalidRequest):
                studio.submit(make_request(**changes), ANNA)
        assert studio.jobs(ANNA) == []


@pytest.mark.parametrize("owner", ["", "../../etc", "a/b", "a" * 65, "é", "a\n", "."])
def test_an_owner_is_never_a_path(tmp_path: Path, owner: str) -> None:
    with open_studio(tmp_path) as studio, pytest.raises(InvalidRequest, match="owner"):
        studio.submit(make_request(), owner)


def test_visitors_never_meet(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio, Scribbler(studio):
        job = wait_for_end(studio, studio.submit(make_request(), ANNA))
        waiting = studio.submit(make_request(num_inference_steps=50), ANNA)
        assert studio.jobs(BERT) == [] and studio.pictures(BERT) == []
        for job_id in (job.id, waiting.id):
            for call in (studio.job, studio.cancel, studio.retry, studio.progress):
                with pytest.raises(NotFound):
                    call(job_id, BERT)
            with pytest.raises(NotFound):
                studio.wait_for_change(job_id, BERT, 0, 1)
        for picture_call in (studio.picture, studio.delete_picture, studio.restore_picture):
            with pytest.raises(NotFound):
                picture_call(job.picture_ids[0], BERT)
        assert studio.picture(job.picture_ids[0], ANNA).owner == ANNA
        assert wait_for_end(studio, waiting).state is JobState.DONE


def test_stopping_in_every_state(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        queued = studio.submit(make_request(), ANNA)
        assert studio.cancel(queued.id, ANNA).state is JobState.CANCELLED
        assert studio.cancel(queued.id, ANNA).state is JobState.CANCELLED
        assert studio.progress(queued.id, ANNA).message == "Stopped"

        loading = studio.submit(make_request(), ANNA)
        assert take(studio).id == loading.id
        assert studio.cancel(loading.id, ANNA).state is JobState.LOADING
        assert studio.is_cancelled(loading.id)
        studio.cancelled(loading.id)
        assert wait_for_end(studio, loading).state is JobState.CANCELLED

        running = studio.submit(make_request(num_images=2), ANNA)
        take(studio)
        studio.report_step(running.id, 1, 4, 0, None)
        studio.keep(running.id, 0, scribble(running.request, 0), "ab", {})
        assert not studio.is_cancelled(running.id)
        studio.cancel(running.id, ANNA)
        assert studio.is_cancelled(running.id)
        studio.cancelled(running.id)
        stopped = wait_for_end(studio, running)
        assert stopped.state is JobState.CANCELLED
        assert len(stopped.picture_ids) == 1, "what was drawn is kept"
        assert studio.cancel(running.id, ANNA).state is JobState.CANCELLED
        assert studio.take(0) is None


def test_a_finished_job_stays_finished(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        job = studio.submit(make_request(), ANNA)
        draw(studio, take(studio))
        assert wait_for_end(studio, job).state is JobState.DONE
        studio.cancel(job.id, ANNA)
        studio.cancelled(job.id)
        studio.fail(job.id, OutOfMemory("late"))
        studio.report_step(job.id, 1, 4, 0, None)
        studio.keep(job.id, 1, scribble(job.request, 0), "ab", {})
    with open_studio(tmp_path) as studio:
        again = studio.job(job.id, ANNA)
        assert (again.state, again.error, len(again.picture_ids)) == (JobState.DONE, None, 1)


def test_retry_is_a_new_job_with_the_same_seed(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        job = studio.submit(make_request(seed=-1), ANNA)
        with pytest.raises(InvalidRequest, match="not finished"):
            studio.retry(job.id, ANNA)
        take(studio)
        studio.fail(job.id, OutOfMemory("The picture does not fit."))
        assert wait_for_end(studio, job).error == "The picture does not fit."
        again = studio.retry(job.id, ANNA)
        assert (again.request, again.id != job.id) == (job.request, True)
        assert again.state is JobState.QUEUED


def test_a_bug_is_logged_with_its_job_and_shown_as_one_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_studio(tmp_path) as studio:
        job = studio.submit(make_request(), ANNA)
        take(studio)
        with caplog.at_level(logging.ERROR):
            studio.fail(job.id, KeyError("secret detail"))
        failed = wait_for_end(studio, job)
        assert failed.state is JobState.FAILED and failed.error is not None
        assert "secret" not in failed.error
        assert studio.progress(job.id, ANNA).message == failed.error
    assert job.id in caplog.text and "secret detail" in caplog.text


def test_a_picture_that_cannot_be_encoded_fails_its_job(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        job = studio.submit(make_request(), ANNA)
        take(studio)
        studio.keep(job.id, 0, Image.new("LAB", (8, 8)), "ab", {})
        studio.finish(job.id)
        assert wait_for_end(studio, job).state is JobState.FAILED
        assert files(tmp_path) == set()


def test_two_hundred_at_once_leave_the_others_their_turn(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:

        def submit(_: int) -> Job | str:
            try:
                return studio.submit(make_request(num_inference_steps=1), ANNA)
            except QueueFull as exc:
                return str(exc)

        with ThreadPoolExecutor(40) as pool:
            results = list(pool.map(submit, range(200)))
        accepted = [result for result in results if isinstance(result, Job)]
        refused = [result for result in results if isinstance(result, str)]
        assert (len(accepted), len(refused)) == (20, 180)
        assert "20 of your requests" in refused[0]
        others = [studio.submit(make_request(), owner) for owner in (BERT, CLEO, BERT)]
        with Scribbler(studio) as engine:
            for job in (*others, *accepted):
                assert wait_for_end(studio, job).state is JobState.DONE
        owners = [job.owner for job in engine.taken]
        assert owners[:5] == [ANNA, BERT, CLEO, ANNA, BERT]
        assert Counter(owners) == {ANNA: 20, BERT: 2, CLEO: 1}


def test_a_full_queue_tells_how_many_wait_and_how_long(tmp_path: Path) -> None:
    with open_studio(tmp_path, queue_limit=3) as studio:
        with Scribbler(studio, step_s=0.01):
            wait_for_end(studio, studio.submit(make_request(), ANNA))
        for owner in (ANNA, BERT, CLEO):
            studio.submit(make_request(), owner)
        with pytest.raises(QueueFull, match=r"3 requests wait; they take about \d+ s"):
            studio.submit(make_request(), "d" * 32)
        for _ in range(2):
            take(studio)
        studio.submit(make_request(), "d" * 32)


def test_positions_foretell_the_order(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        dice = random.Random(3)
        jobs = [studio.submit(make_request(), dice.choice((ANNA, BERT, CLEO))) for _ in range(12)]
        stopped = jobs.pop(4)
        studio.cancel(stopped.id, stopped.owner)
        foretold = {studio.progress(job.id, job.owner).position: job.id for job in jobs}
        assert sorted(foretold) == list(range(1, 12))
        first = take(studio)
        assert first.id == foretold[1]
        later = {
            studio.progress(job.id, job.owner).position: job.id for job in jobs if job != first
        }
        assert [later[n] for n in range(1, 11)] == [foretold[n] for n in range(2, 12)]
        assert [take(studio).id for _ in range(10)] == [later[n] for n in range(1, 11)]


def test_a_newcomer_moves_others_and_they_hear_of_it(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        studio.submit(make_request(), ANNA)
        second = studio.submit(make_request(), ANNA)
        before = studio.progress(second.id, ANNA)
        assert before.position == 2
        threading.Timer(0.05, lambda: studio.submit(make_request(), BERT)).start()
        after = studio.wait_for_change(second.id, ANNA, before.version, 5)
        assert after.position == 3


def test_a_waiting_job_foretells_its_end(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        first = studio.submit(make_request(), ANNA)
        assert studio.progress(first.id, ANNA).eta_s is None
        with Scribbler(studio, step_s=0.02):
            wait_for_end(studio, first)
        jobs = [studio.submit(make_request(), ANNA) for _ in range(3)]
        etas = [studio.progress(job.id, ANNA).eta_s for job in jobs]
        assert etas[0] is not None and 0.05 < etas[0] < 2
        assert etas == pytest.approx([etas[0], 2 * etas[0], 3 * etas[0]])
        studio.report_step(take(studio).id, 3, 4, 0, None)
        running = studio.progress(jobs[0].id, ANNA).eta_s
        assert running is not None and running < etas[0]
    with open_studio(tmp_path) as studio:
        assert studio.progress(jobs[2].id, ANNA).eta_s is not None, "measures outlive the server"


def test_a_waiting_job_foretells_the_loading_of_its_model(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        with Scribbler(studio):
            wait_for_end(studio, studio.submit(make_request(), ANNA))
        studio.set_model_state("builtin", "loading")
        time.sleep(0.3)
        studio.set_model_state("builtin", "loaded")
        jobs = [studio.submit(make_request(), ANNA) for _ in range(2)]
        loaded = [studio.progress(job.id, ANNA).eta_s for job in jobs]
        studio.set_model_state("builtin", "unloaded")
        for job, eta_s in zip(jobs, loaded, strict=True):
            assert eta_s is not None
            later = studio.progress(job.id, ANNA).eta_s
            assert later == pytest.approx(eta_s + 0.3, abs=0.2)


def test_finished_jobs_tell_their_progress_after_a_restart(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio, Scribbler(studio):
        done = wait_for_end(studio, studio.submit(make_request(), ANNA))
        before = studio.progress(done.id, ANNA)
    with open_studio(tmp_path) as studio:
        assert studio.progress(done.id, ANNA) == before
        started = time.monotonic()
        assert studio.wait_for_change(done.id, ANNA, before.version, 60) == before
        assert time.monotonic() - started < 30, "nothing will come, so nothing is waited for"
        assert len(studio.pictures(ANNA)) == 1


def test_deleting_a_picture_can_be_undone_and_shows_in_its_job(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio, Scribbler(studio):
        job = wait_for_end(studio, studio.submit(make_request(num_images=2), ANNA))
        first, second = job.picture_ids
        studio.delete_picture(first, ANNA)
        assert studio.job(job.id, ANNA).picture_ids == (second,)
        assert studio.restore_picture(first, ANNA).id == first
        assert studio.job(job.id, ANNA).picture_ids == (first, second)


def abandon(studio: Studio) -> None:
    """Leave a studio as a crash does: nothing is closed, but the system drops its lock."""
    studio._folder.release()


def test_what_died_is_queued_again_and_keeps_its_pictures(tmp_path: Path) -> None:
    dying = make_studio(tmp_path)
    dying.start()
    running = dying.submit(make_request(num_images=2), ANNA)
    waiting = dying.submit(make_request(), BERT)
    take(dying)
    dying.keep(running.id, 0, scribble(running.request, 0), "ab", {})
    while not dying.kept_indices(running.id):
        time.sleep(0.01)
    abandon(dying)
    with open_studio(tmp_path) as studio:
        again = studio.job(running.id, ANNA)
        assert (again.state, again.attempts, again.started_at) == (JobState.QUEUED, 1, None)
        assert studio.job(waiting.id, BERT).attempts == 0
        assert studio.kept_indices(running.id) == {0}
        with Scribbler(studio) as engine:
            assert wait_for_end(studio, again).state is JobState.DONE
            assert wait_for_end(studio, waiting).state is JobState.DONE
        assert [job.id for job in engine.taken] == [running.id, waiting.id]
        assert len(studio.job(running.id, ANNA).picture_ids) == 2


def test_what_was_stopped_before_the_end_stays_stopped(tmp_path: Path) -> None:
    dying = make_studio(tmp_path)
    dying.start()
    job = dying.submit(make_request(), ANNA)
    take(dying)
    dying.cancel(job.id, ANNA)
    abandon(dying)
    with open_studio(tmp_path) as studio:
        assert studio.job(job.id, ANNA).state is JobState.CANCELLED
        assert studio.take(0) is None


def test_what_kills_the_server_three_times_is_given_up(tmp_path: Path) -> None:
    for _ in range(3):
        dying = make_studio(tmp_path)
        dying.start()
        job = dying.jobs(ANNA)[0] if dying.jobs(ANNA) else dying.submit(make_request(), ANNA)
        take(dying)
        abandon(dying)
    with open_studio(tmp_path) as studio:
        failed = studio.job(job.id, ANNA)
        assert (failed.state, failed.attempts) == (JobState.FAILED, 3)
        assert failed.error is not None and "3 times" in failed.error


def test_a_server_that_is_shut_down_does_not_count_against_the_job(tmp_path: Path) -> None:
    for _ in range(4):
        with open_studio(tmp_path) as studio:
            job = studio.jobs(ANNA)[0] if studio.jobs(ANNA) else studio.submit(make_request(), ANNA)
            assert take(studio).id == job.id
    with open_studio(tmp_path) as studio:
        assert studio.job(job.id, ANNA).state is JobState.QUEUED
        assert studio.job(job.id, ANNA).attempts == 0


def test_a_note_is_left_once_though_the_server_was_shut_down(tmp_path: Path) -> None:
    for _ in range(2):
        with open_studio(tmp_path) as studio:
            job = studio.jobs(ANNA)[0] if studio.jobs(ANNA) else studio.submit(make_request(), ANNA)
            take(studio)
            studio.add_note(job.id, "The prompt was cut.")
    with open_studio(tmp_path) as studio:
        assert studio.job(job.id, ANNA).notes == ()
        take(studio)
        studio.add_note(job.id, "The prompt was cut.")
        draw(studio, job)
        assert wait_for_end(studio, job).notes == ("The prompt was cut.",)


class Lock:
    """Another program that holds the database."""

    def __init__(self, folder: Path) -> None:
        self._connection = sqlite3.connect(
            folder / "croquis.db", isolation_level=None, check_same_thread=False
        )

    def __enter__(self) -> Lock:
        self._connection.execute("BEGIN IMMEDIATE")
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.execute("ROLLBACK")
        self._connection.close()


def test_a_locked_database_is_told_and_changes_nothing(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        waiting = studio.submit(make_request(), ANNA)
        with Lock(tmp_path):
            with pytest.raises(StorageFailed, match="busy"):
                studio.submit(make_request(), ANNA)
            with pytest.raises(StorageFailed):
                studio.cancel(waiting.id, ANNA)
            with pytest.raises(StorageFailed):
                studio.take(0)
            assert [job.id for job in studio.jobs(ANNA)] == [waiting.id], "reading goes on"
            assert studio.progress(waiting.id, ANNA).position == 1
        assert take(studio).id == waiting.id


def test_the_visitors_words_are_not_taken_for_the_databases(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        with sqlite3.connect(tmp_path / "croquis.db") as other:
            other.execute("DROP TABLE jobs")
        other.close()
        with pytest.raises(StorageFailed, match="does not answer") as caught:
            studio.submit(make_request(prompt="a locked door full of disks"), ANNA)
        assert "locked door" not in str(caught.value.__cause__)


def test_an_end_that_cannot_be_stored_is_shown_and_stored_later(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        job = studio.submit(make_request(), ANNA)
        take(studio)
        with Lock(tmp_path):
            studio.fail(job.id, OutOfMemory("It does not fit."))
            assert wait_for_end(studio, job).error == "It does not fit."
            assert studio.jobs(ANNA, active_only=True) == []
        database = Database(f"sqlite:///{tmp_path / 'croquis.db'}")
        store = JobStore(database)
        deadline = time.monotonic() + 60
        while (row := store.find(job.id, ANNA)) is not None and row.is_active:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert row is not None and row.error == "It does not fit."
        database.close()


def test_a_full_disk_fails_the_job_and_says_so(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        job = studio.submit(make_request(num_images=2, width=128, height=128), ANNA)
        take(studio)
        with short_files(40_000):
            studio.keep(job.id, 0, scribble(job.request, 0), "ab", {})
            failed = wait_for_end(studio, job)
        assert failed.state is JobState.FAILED
        assert failed.error is not None and "disk" in failed.error
        assert studio.is_cancelled(job.id), "the engine need not go on"
        studio.keep(job.id, 1, scribble(job.request, 1), "ab", {})
        studio.finish(job.id)
        again = studio.retry(job.id, ANNA)
        with Scribbler(studio):
            assert wait_for_end(studio, again).state is JobState.DONE
        assert studio.job(job.id, ANNA).state is JobState.FAILED
        assert len(files(tmp_path)) == 4


def test_a_data_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageFailed, match="data folder"):
        make_studio(tmp_path / "file")
    with pytest.raises(StorageFailed, match="CROQUIS_DATABASE_URL"):
        make_studio(tmp_path, database_url="nonsense://x")
    (tmp_path / "croquis.db").write_text("this is no database, whatever its name may say " * 40)
    with pytest.raises(StorageFailed):
        make_studio(tmp_path)


def test_two_servers_never_share_a_folder(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        job = studio.submit(make_request(), ANNA)
        take(studio)
        with pytest.raises(StorageFailed, match="CROQUIS_DATA_DIR"):
            make_studio(tmp_path).start()
        assert studio.job(job.id, ANNA).state is JobState.LOADING
    with open_studio(tmp_path) as studio:
        assert studio.job(job.id, ANNA).state is JobState.QUEUED


def test_every_call_is_quick(tmp_path: Path) -> None:
    """In seconds of this thread's own work, so that a busy machine does not matter."""
    with open_studio(tmp_path) as studio:
        with Scribbler(studio):
            for _ in range(10):
                done = wait_for_end(studio, studio.submit(make_request(num_images=8), ANNA))
        jobs = [studio.submit(make_request(), owner) for owner in (ANNA, BERT) for _ in range(19)]
        running = take(studio)
        calls = {
            "submit": lambda: studio.cancel(studio.submit(make_request(), BERT).id, BERT),
            "job": lambda: studio.job(done.id, ANNA),
            "jobs": lambda: studio.jobs(ANNA),
            "progress": lambda: studio.progress(jobs[-1].id, BERT),
            "pictures": lambda: studio.pictures(ANNA),
            "step": lambda: studio.report_step(running.id, 1, 4, 0, b"x"),
            "note": lambda: studio.is_cancelled(running.id),
        }
        for name, call in calls.items():
            times = []
            for _ in range(15):
                started = time.thread_time()
                call()
                times.append(time.thread_time() - started)
            assert sorted(times)[7] < 0.01, f"{name}: {sorted(times)[7] * 1000:.1f} ms"


def survey(folder: Path, studio: Studio, accepted: list[tuple[str, str]]) -> Counter[str]:
    """Check all that a kill may not break; gives the states of the accepted jobs."""
    on_disk = files(folder)
    with_row: set[str] = set()
    for owner in (ANNA, BERT, CLEO):
        for picture in studio.pictures(owner, limit=10_000):
            with Image.open(picture.path) as image:
                image.load()
                assert image.size == (picture.width, picture.height)
            with Image.open(picture.thumbnail_path) as image:
                image.load()
            assert studio.read_settings(picture.path).fields["seed"] == picture.recipe.request.seed
            with_row |= {picture.path.name, picture.thumbnail_path.name}
    assert on_disk == with_row, "a picture without a row, or half a picture"
    states: Counter[str] = Counter()
    for owner, job_id in accepted:
        job = studio.job(job_id, owner)
        states[job.state.value] += 1
        assert job.state in (JobState.DONE, JobState.QUEUED, JobState.CANCELLED) or (
            job.state is JobState.FAILED and job.attempts >= 3
        )
        if job.state is JobState.DONE:
            assert len(job.picture_ids) == job.request.num_images
    return states


def run_until_killed(folder: Path, dice: random.Random) -> list[tuple[str, str]]:
    """Let a studio work in another process, kill -9 it; gives (owner, id) of accepted jobs."""
    victim = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("small_studio.py")), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert victim.stdout is not None and victim.stderr is not None
    first = "".join(victim.stdout.readline() for _ in range(dice.randint(1, 16)))
    assert first, victim.stderr.read()
    time.sleep(dice.random() * 0.05)
    victim.kill()
    rest = victim.stdout.read()
    victim.wait()
    victim.stderr.close()
    victim.stdout.close()
    lines = (first + rest).splitlines(keepends=True)
    pairs = [line.split() for line in lines if line.endswith("\n")]
    return [(owner, job_id) for owner, job_id in pairs]


def test_kill_9_at_any_point_loses_nothing(tmp_path: Path) -> None:
    dice = random.Random()
    accepted: list[tuple[str, str]] = []
    seen: Counter[str] = Counter()
    for _ in range(10):
        accepted += run_until_killed(tmp_path, dice)
        studio = make_studio(tmp_path)
        studio.start()
        seen += survey(tmp_path, studio, accepted)
        studio.close()
    assert seen["done"] and seen["queued"] and seen["cancelled"], seen
    with open_studio(tmp_path) as studio:
        with Scribbler(studio):
            for owner, job_id in accepted:
                wait_for_end(studio, studio.job(job_id, owner), timeout_s=60)
        assert not survey(tmp_path, studio, accepted)["queued"]


def test_the_page_watches_the_job_that_is_drawn_before_any_number_of_others(tmp_path: Path) -> None:
    with open_studio(tmp_path, owner_queue_limit=60) as studio:
        first, *waiting = [studio.submit(make_request(), ANNA) for _ in range(53)]
        assert studio.take(1) is not None

        async def look() -> Glimpse:
            return await anext(watch(studio, ANNA, ""))

        seen = asyncio.run(look())
    assert (seen.job.id, seen.others) == (first.id, len(waiting))
