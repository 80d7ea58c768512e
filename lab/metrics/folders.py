"""Folders of pictures, read one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lab.metrics.errors import TooFewPictures, UnreadablePicture

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
LEAST = 2
"""Pictures of which a spread can be told at all."""


@dataclass(frozen=True, slots=True)
class Folder:
    """The pictures under a folder, in the order of their names."""

    path: Path
    names: list[str]
    """Relative to the folder, with forward slashes."""

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Image.Image]:
        return (read_picture(self.path / name) for name in self.names)


def open_folder(path: Path) -> Folder:
    """List the pictures under a folder, those of its sub-folders included.

    Raises:
        TooFewPictures: if there is no folder or fewer than two pictures in it.
    """
    if not path.is_dir():
        raise TooFewPictures(f"`{path}` is no folder.")
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if len(found) < LEAST:
        raise TooFewPictures(
            f"`{path}` holds {len(found)} picture{'' if len(found) == 1 else 's'}; the figures "
            f"compare spreads and need at least {LEAST}, and thousands to be worth quoting."
        )
    return Folder(path, [file.relative_to(path).as_posix() for file in found])


def read_picture(path: Path) -> Image.Image:
    """Return a picture in RGB, what is transparent over white.

    Raises:
        UnreadablePicture: if the file is cut short or is no picture.
    """
    try:
        with Image.open(path) as picture:
            if not picture.has_transparency_data:
                return picture.convert("RGB")
            ground = Image.new("RGBA", picture.size, "white")
            return Image.alpha_composite(ground, picture.convert("RGBA")).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadablePicture(f"`{path}` cannot be read as a picture: {error}") from error
