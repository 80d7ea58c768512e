"""Jobs in the database: what is written is what is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from small_studio import ANNA, BERT, make_request

from studio.database import Database
from studio.job_store import JobStore
from studio.jobs import Job, JobState


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    database = Database(f"sqlite:///{tmp_path / 'croquis.db'}")
    yield JobStore(database)
    database.close()


def make_job(number: int, owner: str = ANNA, state: JobState = JobState.QUEUED) -> Job:
    return Job(
        id=f"{number:032x}",
        owner=owner,
        request=make_request(prompt="كرسي 🦊\nsecond line"),
        state=state,
        created_at=datetime.now(timezone.utc),
    )


def test_only_three_states_are_active() -> None:
    assert [state.value for state in JobState if state.is_active] == [
        "queued",
        "loading",
        "running",
    ]


def test_a_job_comes_back_as_it_was(store: JobStore) -> None:
    job = replace(
        make_job(1, state=JobState.FAILED),
        started_at=datetime.now(timezone.utc),
        finished_at=datetime.now(timezone.utc),
        error="It broke.",
        notes=("cut: x", "y"),
        attempts=2,
    )
    store.add(job)
    assert store.find(job.id, ANNA) == job
    assert store.find(job.id, ANNA).created_at.tzinfo is timezone.utc


def test_a_job_is_found_by_its_owner_only(store: JobStore) -> None:
    store.add(make_job(1))
    assert store.find(make_job(1).id, BERT) is None
    assert store.newest(BERT, active_only=False, limit=9) == []


def test_newest_come_first_and_can_be_limited(store: JobStore) -> None:
    states = [JobState.DONE, JobState.QUEUED, JobState.CANCELLED, JobState.RUNNING]
    for number, state in enumerate(states):
        store.add(make_job(number, state=state))
    numbers = [int(job.id, 16) for job in store.newest(ANNA, active_only=False, limit=3)]
    assert numbers == [3, 2, 1]
    numbers = [int(job.id, 16) for job in store.newest(ANNA, active_only=True, limit=9)]
    assert numbers == [3, 1]


def test_interrupted_jobs_come_in_order_and_with_their_flag(store: JobStore) -> None:
    for number, state in enumerate([JobState.LOADING, JobState.DONE, JobState.QUEUED]):
        store.add(make_job(number, state=state))
    store.request_cancel(make_job(0).id)
    store.save(replace(make_job(0), state=JobState.RUNNING))
    found = [(int(job.id, 16), stopped) for job, stopped in store.interrupted()]
    assert found == [(0, True), (2, False)]
