"""Pictures that visitors bring: a start, a mask, a control or a reference picture.

    data/inputs/<owner>/<SHA-256 of the PNG>.png

The same picture is kept once, under the same id for whoever brings it; each visitor opens only
their own.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Container
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from studio.errors import InvalidRequest, NotFound
from studio.files import disk_errors, write_atomically
from studio.ingredients import is_picture_id
from studio.request import MAX_KEPT_SIDE

PREFIX = "input-"
KEPT_UNUSED_S = 24 * 3600
"""A form may name a picture long before Create is pressed."""
MOST_PIXELS = 64_000_000


class Inputs:
    """Keeps and opens pictures. Thread-safe: a file is written whole, and never changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, picture: bytes | Path | Image.Image, owner: str) -> str:
        """Keep a picture, turned upright and at most 4096 px a side; return its id.

        Raises:
            InvalidRequest: it is no picture, or too large.
            StorageFailed: the disk did not take it.
        """
        image = _plain(_opened(picture))
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        path = self._path(digest, owner)
        with disk_errors():
            if not path.is_file():
                write_atomically(path, buffer.getvalue())
        return PREFIX + digest

    def sweep(self, named: Container[str]) -> None:
        """Drop what no request names and was brought more than a day ago; for the start only."""
        limit = time.time() - KEPT_UNUSED_S
        with disk_errors():
            for path in self._folder.glob("*/*"):
                if PREFIX + path.stem not in named and path.stat().st_mtime < limit:
                    path.unlink()

    def open(self, picture_id: str, owner: str) -> Image.Image:
        """One kept picture, RGB or L; raises NotFound."""
        with Image.open(self.find(picture_id, owner)) as image:
            image.load()
        return image

    def find(self, picture_id: str, owner: str) -> Path:
        """The file of a kept picture; raises NotFound."""
        path = self.path(picture_id, owner)
        if path is None:
            raise NotFound("The picture that this starts from is not here any more.")
        return path

    def path(self, picture_id: str, owner: str) -> Path | None:
        """The file of a kept picture; None for what is not here, or no id at all."""
        if not is_picture_id(picture_id):
            return None
        path = self._path(picture_id.removeprefix(PREFIX), owner)
        return path if path.is_file() else None

    def _path(self, digest: str, owner: str) -> Path:
        return self._folder / owner / f"{digest}.png"


def _opened(picture: bytes | Path | Image.Image) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture
    try:
        image = Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture)
        if image.width * image.height > MOST_PIXELS:
            raise InvalidRequest(
                f"The picture has {image.width} x {image.height} px; at most "
                f"{MOST_PIXELS // 1_000_000} million can be read."
            )
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        if isinstance(exc, UnidentifiedImageError):
            raise InvalidRequest("This file is no picture that Croquis can read.") from exc
        raise InvalidRequest("This picture is broken or cut short.") from exc
    return image


def _plain(image: Image.Image) -> Image.Image:
    """Upright, without metadata, transparent parts white; L stays L."""
    upright = ImageOps.exif_transpose(image)
    if "A" in upright.getbands() or "transparency" in upright.info:
        clear = upright.convert("RGBA")
        upright = Image.new("RGB", clear.size, "white")
        upright.paste(clear, mask=clear.getchannel("A"))
    plain = upright.convert("L" if upright.mode in ("1", "L") else "RGB")
    plain.thumbnail((MAX_KEPT_SIDE, MAX_KEPT_SIDE), Image.Resampling.LANCZOS)
    plain.info = {}
    return plain
