"""The kept pictures: files in the data folder and one row for each.

    data/pictures/<owner>/<picture id>.png
    data/pictures/<owner>/<picture id>.webp    thumbnail
    data/pictures/<owner>/<picture id>.glb     and other attachments, if it has any

A file is complete before it gets its name, and has its name before it gets its row. What a
crash leaves behind (a file without a row) is swept away at the next start.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

from PIL import Image
from sqlalchemy import ColumnElement, Row, delete, select, update

from studio.attachments import MEDIA_TYPES, NO_ATTACHMENTS
from studio.database import Database, pictures_table
from studio.errors import NotFound, StorageFailed
from studio.files import disk_errors, write_atomically
from studio.jobs import Job
from studio.pictures import Picture
from studio.recipes import Recipe, encode_png

THUMBNAIL_SIDE = 256
KEPT_AFTER_DELETION = timedelta(days=1)

_CLOCK_SLACK_S = 2.0
"""Some file systems round the time of a file down to two seconds."""

_log = logging.getLogger(__name__)


class Library:
    """Adds, finds, deletes and restores pictures. Thread-safe."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder

    def add(
        self,
        job: Job,
        image: Image.Image,
        recipe: Recipe,
        attachments: Mapping[str, bytes] = NO_ATTACHMENTS,
    ) -> None:
        """Keep one picture: all its files, then the row. One that is there already stays.

        Raises:
            StorageFailed: the disk or the database did not take it; nothing is left behind.
        """
        if recipe.index in self.kept_indices(job.id):
            return
        picture_id = uuid4().hex
        png = self._path(job.owner, picture_id, "png")
        thumbnail = self._path(job.owner, picture_id, "webp")
        others = {png.with_suffix(suffix): content for suffix, content in attachments.items()}
        try:
            with disk_errors():
                for path, content in others.items():
                    write_atomically(path, content)
                write_atomically(thumbnail, _encode_thumbnail(image))
                write_atomically(png, encode_png(image, recipe))
            self._insert(picture_id, job, image, recipe)
        except BaseException:
            for path in (png, thumbnail, *others):
                with suppress(OSError):
                    path.unlink()
            raise

    def kept_indices(self, job_id: str) -> set[int]:
        """Which pictures of a job are kept, also those that were deleted since."""
        with self._database.read() as connection:
            query = select(pictures_table.c.image_index).where(pictures_table.c.job_id == job_id)
            return set(connection.execute(query).scalars())

    def newest(self, owner: str, limit: int, offset: int) -> list[Picture]:
        """Pictures of one visitor, newest first, without deleted ones."""
        query = (
            select(pictures_table)
            .where(pictures_table.c.owner == owner, pictures_table.c.deleted_at.is_(None))
            .order_by(pictures_table.c.number.desc())
            .limit(limit)
            .offset(offset)
        )
        with self._database.read() as connection:
            return [self._picture(row) for row in connection.execute(query)]

    def find(self, picture_id: str, owner: str) -> Picture:
        """One picture of one visitor; raises NotFound, also when it is deleted."""
        query = select(pictures_table).where(
            *_named(picture_id, owner), pictures_table.c.deleted_at.is_(None)
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise NotFound("There is no such picture.")
        return self._picture(row)

    def delete(self, picture_id: str, owner: str) -> None:
        """Hide a picture; its files stay for a day. Raises NotFound."""
        shown = pictures_table.c.deleted_at.is_(None)
        self._mark(picture_id, owner, shown, datetime.now(timezone.utc))

    def restore(self, picture_id: str, owner: str) -> None:
        """Undo `delete`; does nothing to a picture that is not deleted. Raises NotFound."""
        self._mark(picture_id, owner, pictures_table.c.id == picture_id, None)

    def sweep(self, interrupted: list[Job]) -> None:
        """Bring files and rows into agreement, and drop what was deleted long ago.

        For the start only, while nothing is being added. A file without a row can only come
        from a job that was interrupted; other such files (of another database, say) stay.
        """
        with disk_errors():
            self._check_folder()
            self._purge()
            rows = self._rows_with_file()
            for part in self._folder.glob("*/*.part"):
                part.unlink()
            for job in interrupted:
                self._remove_orphans(job, rows)

    def _check_folder(self) -> None:
        """Refuse a folder that is not the one that the rows tell of, before a row is dropped."""
        known = self._names(pictures_table.c.deleted_at.is_(None))
        if known and not any(self._path(owner, name, "png").is_file() for name, owner in known):
            raise StorageFailed(
                f"`CROQUIS_DATA_DIR` holds none of the {len(known)} pictures that the database "
                f"knows: {self._folder} is not their folder, or its disk is not mounted. Name or "
                "mount the right one. If the pictures are gone for good, begin with a new "
                "database: move croquis.db away, or change `CROQUIS_DATABASE_URL`."
            )

    def _purge(self) -> None:
        """Drop pictures deleted long ago: files first, so that no file loses its row."""
        limit = datetime.now(timezone.utc) - KEPT_AFTER_DELETION
        is_old = pictures_table.c.deleted_at < limit
        for picture_id, owner in self._names(is_old):
            for suffix in (".png", ".webp", *MEDIA_TYPES):
                self._path(owner, picture_id, suffix[1:]).unlink(missing_ok=True)
        with self._database.write() as connection:
            connection.execute(delete(pictures_table).where(is_old))

    def _rows_with_file(self) -> set[str]:
        """Ids of all pictures; drops rows that lost their file, remakes lost thumbnails."""
        found: set[str] = set()
        for picture_id, owner in self._names(pictures_table.c.number > 0):
            png = self._path(owner, picture_id, "png")
            if png.is_file():
                _remake_thumbnail(png, png.with_suffix(".webp"))
                found.add(picture_id)
                continue
            _log.warning("Picture %s has lost its file; its row is dropped", picture_id)
            with self._database.write() as connection:
                connection.execute(delete(pictures_table).where(pictures_table.c.id == picture_id))
        return found

    def _remove_orphans(self, job: Job, rows: set[str]) -> None:
        since = job.started_at.timestamp() - _CLOCK_SLACK_S if job.started_at else 0.0
        for path in (self._folder / job.owner).glob("*.*"):
            if path.stem not in rows and path.stat().st_mtime >= since:
                _log.info("Removing %s, which was left by job %s", path.name, job.id)
                path.unlink()

    def _names(self, condition: ColumnElement[bool]) -> list[tuple[str, str]]:
        query = select(pictures_table.c.id, pictures_table.c.owner).where(condition)
        with self._database.read() as connection:
            return [(row.id, row.owner) for row in connection.execute(query)]

    def _mark(
        self, picture_id: str, owner: str, now: ColumnElement[bool], deleted_at: datetime | None
    ) -> None:
        query = update(pictures_table).where(*_named(picture_id, owner), now)
        with self._database.write() as connection:
            if not connection.execute(query.values(deleted_at=deleted_at)).rowcount:
                raise NotFound("There is no such picture.")

    def _insert(self, picture_id: str, job: Job, image: Image.Image, recipe: Recipe) -> None:
        with self._database.write() as connection:
            connection.execute(
                pictures_table.insert().values(
                    id=picture_id,
                    job_id=job.id,
                    owner=job.owner,
                    image_index=recipe.index,
                    width=image.width,
                    height=image.height,
                    recipe=recipe.to_json(),
                    created_at=datetime.fromisoformat(recipe.created_at),
                )
            )

    def _picture(self, row: Row[tuple[object, ...]]) -> Picture:
        return Picture(
            id=row.id,
            job_id=row.job_id,
            owner=row.owner,
            index=row.image_index,
            path=self._path(row.owner, row.id, "png"),
            thumbnail_path=self._path(row.owner, row.id, "webp"),
            width=row.width,
            height=row.height,
            recipe=Recipe.from_json(row.recipe),
            created_at=row.created_at,
            deleted_at=row.deleted_at,
        )

    def _path(self, owner: str, picture_id: str, suffix: str) -> Path:
        return self._folder / owner / f"{picture_id}.{suffix}"


def _named(picture_id: str, owner: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return pictures_table.c.id == picture_id, pictures_table.c.owner == owner


def _encode_thumbnail(image: Image.Image) -> bytes:
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, format="WEBP", quality=85, method=2)
    return buffer.getvalue()


def _remake_thumbnail(png: Path, thumbnail: Path) -> None:
    """Make a thumbnail that got lost; a start must not fail for the want of one."""
    if thumbnail.is_file():
        return
    try:
        with Image.open(png) as image:
            write_atomically(thumbnail, _encode_thumbnail(image))
    except (OSError, SyntaxError, ValueError):
        _log.exception("The thumbnail of %s could not be made again", png.name)
