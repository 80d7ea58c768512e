"""Rasterise the drawings of every concept once, as sprites with transparency."""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from lab.concepts import Concept, read_concepts
from lab.example import SIZE
from lab.palette import Rgb
from lab.sources import EMOJI_STYLES, MissingCorpus, fetch, read_icons, read_json

SPRITE_SIZE = min(256, SIZE * 3 // 2)
"""Side of a sprite, px; no source has more than 256."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Drawing:
    """One sprite of a thing, RGBA, cropped to what is drawn."""

    picture: Image.Image
    style: str
    """The source it comes from, a key of EMOJI_STYLES."""
    tone: Rgb
    """Mean colour of what is drawn."""


def sprite_archive(cache: Path) -> Path:
    """Return where the sprites of this picture size lie."""
    return cache / f"sprites-{SIZE}.npz"


def fetch_sprites(cache: Path, without: Collection[str] = ()) -> Path:
    """Write every drawing of every concept into one archive under `cache` and return its path.

    Raises:
        MissingCorpus: if a package cannot be fetched; `without` leaves styles out.
    """
    archive, wanted = sprite_archive(cache), [s for s in EMOJI_STYLES if s not in without]
    if archive.exists() and _styles_in(archive) >= set(wanted):
        return archive
    names, styles, pictures = [], [], []
    for style in wanted:
        for concept, picture in _draw_style(cache / "npm", style):
            names.append(concept.name)
            styles.append(style)
            pictures.append(np.asarray(picture))
    np.savez(archive, names=np.array(names), styles=np.array(styles), pictures=np.stack(pictures))
    _log.info("rasterised %d sprites of %d concepts", len(names), len(set(names)))
    return archive


def _styles_in(archive: Path) -> set[str]:
    with np.load(archive, allow_pickle=False) as stored:
        return set(stored["styles"].tolist())


def load_sprites(cache: Path, without: Collection[str] = ()) -> dict[str, list[Drawing]]:
    """Return concept -> its drawings, but for those of styles to go without."""
    archive = sprite_archive(cache)
    if not archive.exists():
        raise MissingCorpus(f"`{archive}` is missing; `python -m lab.train` fetches it with npm.")
    with np.load(archive, allow_pickle=False) as stored:
        rows = [stored[key] for key in ("names", "styles", "pictures")]
    drawings: dict[str, list[Drawing]] = {}
    for name, style, pixels in zip(*rows, strict=True):
        if str(style) not in without:
            drawings.setdefault(str(name), []).append(as_drawing(pixels, str(style)))
    return drawings


def as_drawing(pixels: np.ndarray, style: str) -> Drawing:
    """Crop a sprite, (H, W, 4) uint8, to what is drawn."""
    picture = Image.fromarray(pixels)
    red, green, blue = pixels[pixels[..., 3] > 128][:, :3].mean(0).astype(int)
    return Drawing(
        picture.crop(picture.getchannel("A").getbbox()), style, (int(red), int(green), int(blue))
    )


def _draw_style(folder: Path, style: str) -> Iterator[tuple[Concept, Image.Image]]:
    """Yield every drawing that one source has."""
    if style == "fluent-3d":
        yield from _draw_renders(folder)
        return
    icons = read_icons(folder, EMOJI_STYLES[style])
    for concept in read_concepts().values():
        for body in _bodies(icons, concept):
            yield concept, rasterise(body, icons)


def _draw_renders(folder: Path) -> Iterator[tuple[Concept, Image.Image]]:
    """Yield the 3D renders: they are named by code point, which another set knows by name."""
    named = read_json(fetch(folder, EMOJI_STYLES["noto"]), "package/chars.json")
    points = {name: point for point, name in named.items()}
    with tarfile.open(fetch(folder, EMOJI_STYLES["fluent-3d"])) as packed:
        members = {member.name: member for member in packed.getmembers()}
        for concept in read_concepts().values():
            for point in [points[icon] for icon in concept.icons if icon in points]:
                for suffix in ("", "-fe0f"):
                    member = members.get(f"package/assets/{point}{suffix}.webp")
                    if member:
                        yield concept, _as_sprite(packed.extractfile(member).read())
                        break


def _bodies(icons: dict, concept: Concept) -> list[str]:
    """Return the SVG bodies that one set has for a concept, at most one per icon."""
    drawings, aliases = icons["icons"], icons.get("aliases", {})
    found = []
    for icon in concept.icons:
        for name in (icon, icon.replace("-", ""), f"{icon}-1", f"{icon}-face"):
            name = aliases.get(name, {}).get("parent", name)
            if name in drawings:
                found.append(drawings[name]["body"])
                break
    return found


def rasterise(body: str, icons: dict) -> Image.Image:
    """Return one icon of a set as RGBA, `SPRITE_SIZE` px square."""
    import resvg_py

    width, height = icons.get("width", 16), icons.get("height", 16)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SPRITE_SIZE}" height="{SPRITE_SIZE}" viewBox="0 0 {width} {height}">{body}</svg>'
    )
    return _as_sprite(bytes(resvg_py.svg_to_bytes(svg_string=svg)))


def _as_sprite(encoded: bytes) -> Image.Image:
    """Decode a picture with transparency, `SPRITE_SIZE` px square."""
    picture = Image.open(BytesIO(encoded)).convert("RGBA")
    return picture.resize((SPRITE_SIZE, SPRITE_SIZE), Image.Resampling.LANCZOS)
