"""The rows of jobs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import cast

from sqlalchemy import Connection, Row, select, update

from studio.database import Database, jobs_table, pictures_table
from studio.jobs import ACTIVE_STATES, Enlargement, Job, JobState
from studio.request import GenerationRequest

_ACTIVE = [state.value for state in ACTIVE_STATES]


class JobStore:
    """Jobs as the database remembers them. Every method is one short transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, job: Job) -> None:
        """Write a new job."""
        with self._database.write() as connection:
            connection.execute(jobs_table.insert().values(id=job.id, **_columns(job)))

    def save(self, job: Job) -> None:
        """Write the state of a known job."""
        with self._database.write() as connection:
            connection.execute(
                update(jobs_table).where(jobs_table.c.id == job.id).values(**_columns(job))
            )

    def request_cancel(self, job_id: str) -> None:
        """Remember, beyond a restart, that the visitor stopped the job."""
        with self._database.write() as connection:
            connection.execute(
                update(jobs_table).where(jobs_table.c.id == job_id).values(cancel_requested=True)
            )

    def find(self, job_id: str, owner: str) -> Job | None:
        """One job of one visitor."""
        with self._database.read() as connection:
            query = select(jobs_table).where(jobs_table.c.id == job_id, jobs_table.c.owner == owner)
            return next(iter(_jobs(connection, connection.execute(query).all())), None)

    def newest(self, owner: str, active_only: bool, limit: int | None) -> list[Job]:
        """Jobs of one visitor, newest first; a limit of None is all of them."""
        query = select(jobs_table).where(jobs_table.c.owner == owner)
        if active_only:
            query = query.where(jobs_table.c.state.in_(_ACTIVE))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(jobs_table.c.number.desc()).limit(limit))
            return _jobs(connection, rows.all())

    def named_inputs(self) -> set[str]:
        """Ids of all files and pictures that visitors brought and requests name."""
        column = jobs_table.c.request
        with self._database.read() as connection:
            rows = connection.execute(select(column).where(column.contains("input-"))).scalars()
            return {one for text in rows for one in _INPUT.findall(text)}

    def interrupted(self) -> list[tuple[Job, bool]]:
        """Jobs that were active when the process ended, oldest first, and who was stopped."""
        query = select(jobs_table).where(jobs_table.c.state.in_(_ACTIVE))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(jobs_table.c.number)).all()
            stopped = [bool(row.cancel_requested) for row in rows]
            return list(zip(_jobs(connection, rows), stopped, strict=True))


_INPUT = re.compile(r"input-[0-9a-f]{64}")


def _columns(job: Job) -> dict[str, object]:
    return {
        "owner": job.owner,
        "request": json.dumps(job.request.to_json()),
        "enlargement": json.dumps(asdict(job.enlargement)) if job.enlargement else None,
        "state": job.state.value,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "error": job.error,
        "notes": json.dumps(job.notes),
        "attempts": job.attempts,
    }


def _jobs(connection: Connection, rows: Iterable[Row[tuple[object, ...]]]) -> list[Job]:
    rows = list(rows)
    pictures = _picture_ids(connection, [row.id for row in rows])
    return [_job(row, pictures.get(row.id, ())) for row in rows]


def _picture_ids(connection: Connection, job_ids: list[str]) -> dict[str, tuple[str, ...]]:
    query = (
        select(pictures_table.c.job_id, pictures_table.c.id)
        .where(pictures_table.c.job_id.in_(job_ids), pictures_table.c.deleted_at.is_(None))
        .order_by(pictures_table.c.image_index)
    )
    found: dict[str, tuple[str, ...]] = {}
    for job_id, picture_id in connection.execute(query):
        found[job_id] = (*found.get(job_id, ()), picture_id)
    return found


def _job(row: Row[tuple[object, ...]], picture_ids: tuple[str, ...]) -> Job:
    return Job(
        id=row.id,
        owner=row.owner,
        request=GenerationRequest.from_json(json.loads(row.request)),
        enlargement=Enlargement(**json.loads(row.enlargement)) if row.enlargement else None,
        state=JobState(row.state),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        error=row.error,
        notes=tuple(cast("list[str]", json.loads(row.notes))),
        picture_ids=picture_ids,
        attempts=row.attempts,
    )
