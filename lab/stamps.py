"""Pictures cut out of icon sets, clip art and furniture catalogues, rasterised once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lab.corpus_fetch import SPRITE_SIZE, Drawing, as_drawing, rasterise
from lab.example import SIZE
from lab.sources import COLOUR_ICONS, SILHOUETTES, read_icons
from lab.stamp_packages import clip_art, furniture
from lab.stamp_words import concept_named, is_held_out, plain_words
from lab.tiles import tiles

LEAST_INK, MOST_INK = 0.04, 0.97
"""Share of a picture that is drawn: less is a speck, more is a whole scene on its own ground."""

Cut = tuple[str, str, Image.Image]
"""Words, style and picture, RGBA."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stamp:
    """A drawing with the words for it."""

    words: str
    drawing: Drawing

    @property
    def thing(self) -> str:
        """The concept that it shows, or "" for one that is not in concepts.toml."""
        return concept_named(self.words)


def silhouettes(cache: Path) -> Iterator[Cut]:
    """Yield one-colour silhouettes."""
    icons = read_icons(cache / "npm", SILHOUETTES)
    for name, icon in icons["icons"].items():
        if words := plain_words(name):
            yield words, "game-icons", rasterise(icon["body"], icons | _size(icon))


def colour_icons(cache: Path) -> Iterator[Cut]:
    """Yield the icons of every colour set."""
    for style, source in COLOUR_ICONS.items():
        icons = read_icons(cache / "npm", source)
        for name, icon in icons["icons"].items():
            if words := plain_words(name):
                yield words, style, rasterise(icon["body"], icons | _size(icon))


def _size(icon: dict) -> dict:
    return {key: icon[key] for key in ("width", "height") if key in icon}


STAMPS: dict[str, Callable[[Path], Iterator[Cut]]] = {
    "silhouette": silhouettes,
    "tile": tiles,
    "icon": colour_icons,
    "clipart": clip_art,
    "furniture": furniture,
}
"""Part of the corpus -> what cuts its pictures out."""


def open_stamps(cache: Path, without: Collection[str] = ()) -> dict[str, list[Stamp]]:
    """Return part -> its stamps, fetched on the first call; none that training must not see.

    Raises:
        MissingCorpus: if a package cannot be fetched; `without` leaves parts out.
    """
    return {part: load_stamps(cache, part) for part in STAMPS if part not in without}


def load_stamps(cache: Path, part: str) -> list[Stamp]:
    """Return the stamps of one part."""
    archive = cache / f"stamps-{part}-{SIZE}.npz"
    if not archive.exists():
        _save(archive, part, STAMPS[part](cache))
    with np.load(archive, allow_pickle=False) as stored:
        rows = [stored[key] for key in ("words", "styles", "pictures")]
    as_stamp = as_tile if part == "tile" else as_drawing
    return [
        Stamp(str(words), as_stamp(pixels, str(style)))
        for words, style, pixels in zip(*rows, strict=True)
        if plain_words(str(words)) and not is_held_out(str(words))
    ]


def as_tile(pixels: np.ndarray, style: str) -> Drawing:
    """Keep a tile whole: cropped, it would no longer join."""
    return Drawing(Image.fromarray(pixels), style, (0, 0, 0))


def _save(archive: Path, part: str, cuts: Iterator[Cut]) -> None:
    rows = [cut for cut in cuts if part == "tile" or _is_drawn(cut[2])]
    words, styles, pictures = zip(*rows, strict=True)
    fresh = archive.with_suffix(".new.npz")
    np.savez_compressed(
        fresh,
        words=np.array(words),
        styles=np.array(styles),
        pictures=np.stack([np.asarray(picture) for picture in pictures]),
    )
    fresh.replace(archive)
    _log.info("rasterised %d stamps for %s, %d px", len(rows), part, SPRITE_SIZE)


def _is_drawn(picture: Image.Image) -> bool:
    """Say whether a cut-out shows enough, and has anything cut away."""
    share = float((np.asarray(picture.getchannel("A")) > 128).mean())
    return LEAST_INK < share < MOST_INK
