"""The tables, and short transactions whose failures become one clear error."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Dialect,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    create_engine,
    event,
    inspect,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, TimeoutError

from studio.errors import StorageFailed

BUSY_TIMEOUT_MS = 2000

_metadata = MetaData()


class Moment(TypeDecorator[datetime]):
    """An aware datetime in UTC, stored as seconds since 1970: the same in every database."""

    impl = Float(53)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> float | None:
        """To the database."""
        return value.timestamp() if value else None

    def process_result_value(self, value: float | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        return None if value is None else datetime.fromtimestamp(value, timezone.utc)


jobs_table = Table(
    "jobs",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("owner", String(64), nullable=False, index=True),
    Column("request", Text, nullable=False),
    Column("enlargement", Text),
    Column("state", String(16), nullable=False, index=True),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("created_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("error", Text),
    Column("notes", Text, nullable=False, default="[]"),
    Column("attempts", Integer, nullable=False, default=0),
)

pictures_table = Table(
    "pictures",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("job_id", String(32), ForeignKey("jobs.id"), nullable=False, index=True),
    Column("owner", String(64), nullable=False, index=True),
    Column("image_index", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("recipe", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("deleted_at", Moment),
    UniqueConstraint("job_id", "image_index"),
)

timings_table = Table(
    "timings",
    _metadata,
    Column("model", String(64), primary_key=True),
    Column("width", Integer, primary_key=True, autoincrement=False),
    Column("height", Integer, primary_key=True, autoincrement=False),
    Column("upscale", Integer, primary_key=True, autoincrement=False),
    Column("step_s", Float, nullable=False),
    Column("picture_s", Float, nullable=False),
)


class Database:
    """One engine for the whole process. Thread-safe.

    Writers of this process take turns on a lock, so that only another process can make one
    of them wait for SQLite's own. Readers never wait (write-ahead log).
    """

    def __init__(self, url: str) -> None:
        try:
            self._engine = create_engine(url, hide_parameters=True)
        except (ArgumentError, NoSuchModuleError, ImportError) as exc:
            raise StorageFailed(
                "`CROQUIS_DATABASE_URL` must be a URL that SQLAlchemy knows, and its driver "
                f"must be installed: {exc}"
            ) from exc
        self._writing = threading.Lock()
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _tune_sqlite)
        with self.write() as connection:
            _metadata.create_all(connection)
            _add_new_columns(connection)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed at the end, or rolled back as a whole.

        Raises:
            StorageFailed: the database is locked, full or gone.
        """
        with self._writing, _translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection to read with; raises StorageFailed as `write` does."""
        with _translated(), self._engine.connect() as connection:
            yield connection

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()


def _add_new_columns(connection: Connection) -> None:
    """Give a database of an older Croquis the columns that came since; all of them may be empty."""
    for table in _metadata.sorted_tables:
        known = {column["name"] for column in inspect(connection).get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                kind = column.type.compile(connection.dialect)
                connection.execute(text(f"ALTER TABLE {table.name} ADD {column.name} {kind}"))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, TimeoutError, sqlite3.Error) as exc:
        # Only the driver's own words: SQLAlchemy adds the statement and what the visitor wrote.
        raise StorageFailed(_explanation(str(getattr(exc, "orig", exc)))) from exc


def _explanation(failure: str) -> str:
    if "locked" in failure:
        return "The database is busy with another program. Try again in a moment."
    if "full" in failure:
        return "The disk of the server is full, so nothing can be kept. Free some space first."
    return "The database of the server does not answer. Try again later."


def _tune_sqlite(connection: object, _record: object) -> None:
    """An accepted job survives kill -9 (not a power cut) without waiting for the disk."""
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()
