"""What belongs to a picture comes, goes and is swept away with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from small_studio import ANNA, make_request, scribble
from sqlalchemy import update
from test_library import files, make_job, short_files
from test_recipes import make_recipe

from studio.attachments import GIF, GLB
from studio.database import Database, pictures_table
from studio.errors import StorageFailed
from studio.jobs import Job
from studio.library import Library

PARTS = {GIF: b"GIF89a", GLB: b"glTF"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'croquis.db'}")
    yield database
    database.close()


@pytest.fixture
def library(database: Database, tmp_path: Path) -> Library:
    return Library(database, tmp_path / "pictures")


@pytest.fixture
def job(database: Database) -> Job:
    return make_job(database)


def add(library: Library, job: Job, index: int = 0) -> None:
    image = scribble(make_request(), index)
    library.add(job, image, replace(make_recipe(), index=index), PARTS)


def test_attachments_are_kept_beside_their_picture(
    library: Library,
    job: Job,
) -> None:
    add(library, job)
    [picture] = library.newest(ANNA, limit=9, offset=0)
    for suffix, content in PARTS.items():
        kept = picture.attachment(suffix)
        assert kept == picture.path.with_suffix(suffix)
        assert kept.read_bytes() == content
    assert picture.attachment(".py") is None


@pytest.mark.parametrize(("hours", "is_kept"), [(23, True), (25, False)])
def test_they_are_purged_with_their_picture(
    library: Library,
    database: Database,
    job: Job,
    tmp_path: Path,
    hours: int,
    is_kept: bool,
) -> None:
    add(library, job, 0)
    add(library, job, 1)
    newest, oldest = library.newest(ANNA, limit=9, offset=0)
    deleted_at = datetime.now(timezone.utc) - timedelta(hours=hours)
    with database.write() as connection:
        row = pictures_table.c.id == oldest.id
        connection.execute(update(pictures_table).where(row).values(deleted_at=deleted_at))
    library.sweep([])
    left = {name.split(".")[0] for name in files(tmp_path)}
    assert left == ({newest.id, oldest.id} if is_kept else {newest.id})
    assert len(files(tmp_path)) == 4 * len(left)


def test_what_a_crash_left_of_them_is_swept_away(
    library: Library,
    job: Job,
    tmp_path: Path,
) -> None:
    add(library, job)
    kept = files(tmp_path)
    for suffix in (GIF, GLB, f"{GLB}.part"):
        (tmp_path / "pictures" / ANNA / ("f" * 32 + suffix)).write_bytes(b"left")
    library.sweep([job])
    assert files(tmp_path) == kept


def test_a_disk_that_takes_only_some_of_them_leaves_nothing_behind(
    library: Library,
    job: Job,
    tmp_path: Path,
) -> None:
    image, large = scribble(make_request(), 0), {GIF: b"GIF89a", GLB: b"glTF" * 10_000}
    with short_files(20_000), pytest.raises(StorageFailed):
        library.add(job, image, make_recipe(), large)
    assert files(tmp_path) == set()
