"""The text chunks of a PNG from anywhere, read without decoding a pixel."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

from PIL.PngImagePlugin import PngImageFile

from studio.errors import InvalidRequest

MAX_FILE_BYTES = 64 * 2**20
MAX_PIXELS = 100_000_000
"""Croquis itself keeps at most 4096 x 4096."""
MAX_TEXT_CHARACTERS = 2**20
"""Of one chunk; Pillow limits compressed ones to the same size while it unpacks them."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_text_chunks(png: Path | bytes) -> dict[str, str]:
    """Names and texts of the chunks before the pixels; overlong texts are left out.

    Raises:
        InvalidRequest: no PNG, a broken one, or one too large in bytes, pixels or text.
    """
    content = png if isinstance(png, bytes) else _read(png)
    if len(content) > MAX_FILE_BYTES:
        raise InvalidRequest(f"The file must have at most {MAX_FILE_BYTES // 2**20} MiB.")
    if not content.startswith(_SIGNATURE):
        raise InvalidRequest("This file is not a PNG picture. Settings are read from PNG only.")
    with _open(content) as image:
        if image.width * image.height > MAX_PIXELS:
            raise InvalidRequest(
                f"The picture must have at most {MAX_PIXELS // 10**6} million pixels, "
                f"this one says it has {image.width} x {image.height}."
            )
        return {
            str(name): str(text)
            for name, text in image.info.items()
            if isinstance(text, str) and len(text) <= MAX_TEXT_CHARACTERS
        }


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise InvalidRequest("The file could not be read. Choose it again.") from exc


def _open(content: bytes) -> PngImageFile:
    """Parse the header; unlike `Image.open` this leaves the size check to us."""
    try:
        return PngImageFile(io.BytesIO(content))
    except (SyntaxError, ValueError, OSError, EOFError, struct.error, zlib.error) as exc:
        if "MAX_TEXT" in str(exc):
            raise InvalidRequest("This PNG carries more text than any settings need.") from exc
        raise InvalidRequest("This PNG is broken, so its settings cannot be read.") from exc
