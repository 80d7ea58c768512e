"""Files that are there as a whole or not at all, and the disk's errors in plain words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from studio.errors import StorageFailed


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f"{path.suffix}.{uuid4().hex}.part")  # two may write the same file
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn what the disk refuses inside the block into StorageFailed."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFailed(
                "The disk of the server is full, so the picture was not kept. "
                "Free some space first."
            ) from exc
        raise StorageFailed("The picture could not be written to the server's disk.") from exc
