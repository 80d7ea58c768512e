"""The library: a file is whole or absent, and has a row or is swept away."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image
from small_studio import ANNA, BERT, make_request, scribble
from sqlalchemy import update
from test_recipes import make_recipe

from studio.database import Database, pictures_table
from studio.errors import NotFound, StorageFailed
from studio.job_store import JobStore
from studio.jobs import Job, JobState
from studio.library import Library


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


def make_job(database: Database, owner: str = ANNA) -> Job:
    now = datetime.now(timezone.utc)
    job = Job(
        id=uuid4().hex,
        owner=owner,
        request=make_request(),
        state=JobState.RUNNING,
        created_at=now,
        started_at=now,
    )
    JobStore(database).add(job)
    return job


def add(library: Library, job: Job, index: int = 0, side: int = 64) -> None:
    image = scribble(make_request(width=side, height=side), index)
    library.add(job, image, replace(make_recipe(), index=index))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("pictures/*/*")}


def test_a_picture_has_a_file_a_thumbnail_and_a_row(
    library: Library, job: Job, tmp_path: Path
) -> None:
    image = Image.effect_noise((640, 320), 90).convert("RGB")
    library.add(job, image, make_recipe())
    (picture,) = library.newest(ANNA, limit=9, offset=0)
    assert (picture.width, picture.height, picture.job_id) == (640, 320, job.id)
    assert picture.recipe == make_recipe()
    assert Image.open(picture.path).tobytes() == image.tobytes()
    assert Image.open(picture.thumbnail_path).size == (256, 128)
    assert files(tmp_path) == {f"{picture.id}.png", f"{picture.id}.webp"}


def test_the_same_picture_is_kept_once(library: Library, job: Job, tmp_path: Path) -> None:
    add(library, job, 1)
    add(library, job, 1)
    assert library.kept_indices(job.id) == {1}
    assert len(files(tmp_path)) == 2


def test_newest_come_first_in_pages(library: Library, job: Job) -> None:
    for index in range(5):
        add(library, job, index)
    pages = [library.newest(ANNA, limit=2, offset=offset) for offset in (0, 2, 4)]
    assert [[picture.index for picture in page] for page in pages] == [[4, 3], [2, 1], [0]]


def test_nobody_else_sees_deletes_or_restores_it(library: Library, job: Job) -> None:
    add(library, job)
    (picture,) = library.newest(ANNA, limit=9, offset=0)
    assert library.newest(BERT, limit=9, offset=0) == []
    for method in (library.find, library.delete, library.restore):
        with pytest.raises(NotFound):
            method(picture.id, BERT)
    assert library.find(picture.id, ANNA) == picture


def test_a_deleted_picture_can_be_restored(library: Library, job: Job) -> None:
    add(library, job)
    (picture,) = library.newest(ANNA, limit=9, offset=0)
    library.delete(picture.id, ANNA)
    assert library.newest(ANNA, limit=9, offset=0) == []
    for method in (library.find, library.delete):
        with pytest.raises(NotFound):
            method(picture.id, ANNA)
    assert library.kept_indices(job.id) == {0}, "it must not be drawn again"
    library.restore(picture.id, ANNA)
    library.restore(picture.id, ANNA)
    assert library.find(picture.id, ANNA) == picture


@pytest.mark.parametrize(("hours", "is_kept"), [(23, True), (25, False)])
def test_deleted_pictures_are_purged_after_a_day(
    library: Library, database: Database, job: Job, tmp_path: Path, hours: int, is_kept: bool
) -> None:
    add(library, job, 0)
    add(library, job, 1)
    newest, oldest = library.newest(ANNA, limit=9, offset=0)
    deleted_at = datetime.now(timezone.utc) - timedelta(hours=hours)
    with database.write() as connection:
        oldest_row = pictures_table.c.id == oldest.id
        connection.execute(update(pictures_table).where(oldest_row).values(deleted_at=deleted_at))
    library.sweep([])
    assert (f"{oldest.id}.png" in files(tmp_path)) is is_kept
    assert newest.path.is_file() and newest.thumbnail_path.is_file()
    if not is_kept:
        with pytest.raises(NotFound):
            library.restore(oldest.id, ANNA)


def test_the_sweep_removes_what_an_interrupted_job_left(
    library: Library, job: Job, tmp_path: Path
) -> None:
    add(library, job)
    kept = files(tmp_path)
    folder = tmp_path / "pictures" / ANNA
    (folder / "half.png.part").write_bytes(b"half")
    (folder / f"{uuid4().hex}.png").write_bytes(b"orphan")
    (folder / f"{uuid4().hex}.webp").write_bytes(b"orphan")
    library.sweep([job])
    assert files(tmp_path) == kept


def test_the_sweep_leaves_pictures_of_another_database_alone(
    library: Library, database: Database, job: Job, tmp_path: Path
) -> None:
    """Someone points the database setting elsewhere: no picture may be lost by that."""
    add(library, job)
    kept = files(tmp_path)
    yesterday = time.time() - 86_400
    for path in tmp_path.glob("pictures/*/*"):
        os.utime(path, (yesterday, yesterday))
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    Library(other, tmp_path / "pictures").sweep([make_job(other)])
    other.close()
    assert files(tmp_path) == kept


def test_a_row_that_lost_its_file_is_dropped(library: Library, job: Job) -> None:
    add(library, job, 0)
    add(library, job, 1)
    newest, oldest = library.newest(ANNA, limit=9, offset=0)
    newest.path.unlink()
    library.sweep([])
    assert library.newest(ANNA, limit=9, offset=0) == [oldest]


def test_a_folder_that_holds_none_of_the_pictures_costs_no_row(
    library: Library, job: Job, tmp_path: Path
) -> None:
    """The disk of the pictures is not mounted, say."""
    for index in range(3):
        add(library, job, index)
    known = library.newest(ANNA, limit=9, offset=0)
    library.delete(known[0].id, ANNA)
    (tmp_path / "pictures").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageFailed, match="CROQUIS_DATA_DIR` holds none of the 2 pictures"):
        library.sweep([job])
    (tmp_path / "elsewhere").rename(tmp_path / "pictures")
    library.sweep([job])
    assert library.newest(ANNA, limit=9, offset=0) == known[1:]
    library.restore(known[0].id, ANNA)


def test_a_lost_thumbnail_is_made_again(library: Library, job: Job) -> None:
    add(library, job)
    (picture,) = library.newest(ANNA, limit=9, offset=0)
    picture.thumbnail_path.unlink()
    library.sweep([])
    assert Image.open(picture.thumbnail_path).size == (64, 64)


def test_a_broken_file_does_not_stop_the_start(library: Library, job: Job) -> None:
    add(library, job)
    (picture,) = library.newest(ANNA, limit=9, offset=0)
    picture.thumbnail_path.unlink()
    picture.path.write_bytes(b"no picture")
    library.sweep([])
    assert not picture.thumbnail_path.exists()


def test_a_sweep_of_nothing_is_fine(library: Library, job: Job) -> None:
    library.sweep([job])


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a file system of 256 KiB on a folder; skip where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        is_mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        is_mounted = False
    if not is_mounted:
        pytest.skip("mounting a small disk needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_leaves_nothing_behind(
    library: Library, job: Job, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "pictures"):
        add(library, job, 0)
        kept = files(tmp_path)
        with pytest.raises(StorageFailed, match="full"):
            add(library, job, 1, side=512)
        assert files(tmp_path) == kept
        assert library.kept_indices(job.id) == {0}


@contextmanager
def short_files(limit: int) -> Iterator[None]:
    """Let no file of this process grow beyond `limit` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("limit", "what"), [(500, "thumbnail"), (8_000, "picture")])
def test_a_file_that_cannot_grow_leaves_nothing_behind(
    library: Library, job: Job, tmp_path: Path, limit: int, what: str
) -> None:
    with short_files(limit), pytest.raises(StorageFailed, match="full"):
        add(library, job)
    assert files(tmp_path) == set()
    add(library, job)
    assert len(files(tmp_path)) == 2


def test_a_folder_that_cannot_be_written_is_told(
    library: Library, job: Job, tmp_path: Path
) -> None:
    (tmp_path / "pictures").write_text("a file where a folder should be")
    with pytest.raises(StorageFailed, match="could not be written"):
        add(library, job)


def test_a_locked_database_leaves_no_file_behind(
    library: Library, job: Job, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "croquis.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageFailed, match="busy"):
        add(library, job)
    other.execute("ROLLBACK")
    other.close()
    assert files(tmp_path) == set()
    add(library, job)
