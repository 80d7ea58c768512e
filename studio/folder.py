"""The folder that one server keeps everything in, and that it alone uses."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from studio.errors import StorageFailed


class Folder:
    """Made at once, locked while the server runs.

    Raises:
        StorageFailed: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StorageFailed(f"The data folder {path} cannot be made.") from exc
        self._path = path
        self._lock = FileLock(path / "server.lock")

    @property
    def pictures(self) -> Path:
        """Where the picture files are."""
        return self._path / "pictures"

    @property
    def inputs(self) -> Path:
        """Where the pictures that visitors bring are."""
        return self._path / "inputs"

    @property
    def adapters(self) -> Path:
        """Where the LoRAs and embeddings that visitors bring are."""
        return self._path / "adapters"

    @property
    def database_url(self) -> str:
        """The database that is used when the settings name none."""
        return f"sqlite:///{self._path / 'croquis.db'}"

    def lock(self) -> None:
        """Keep others out: each of two servers would take the other's work for a crash's.

        Raises:
            StorageFailed: another server uses the folder.
        """
        try:
            self._lock.acquire(timeout=0)
        except (Timeout, OSError) as exc:
            raise StorageFailed(
                f"Another Croquis uses {self._path}. Stop it first, or give this one a folder of "
                "its own by `CROQUIS_DATA_DIR`."
            ) from exc

    def release(self) -> None:
        """Let the next server in."""
        self._lock.release()
