"""Clip art and furniture out of Debian packages, each cropped to a square cut-out."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from PIL import Image

from lab.corpus_fetch import SPRITE_SIZE
from lab.sources import CLIP_ART, FURNITURE, read_debian
from lab.stamp_words import CHOICE, plain_words

DRAWN = 4 * SPRITE_SIZE
"""Side at which clip art is drawn, px: much of it lies small on a large sheet."""

PIXELS = {"": 1, "px": 1, "pt": 4 / 3, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96, "pc": 16}
"""Unit of length in SVG -> its pixels."""


def clip_art(cache: Path) -> Iterator[tuple[str, str, Image.Image]]:
    """Yield words, style and picture of every clip art whose title or file name says a thing."""
    for path, content in read_debian(cache / "debian", CLIP_ART, ".svg"):
        folder, _, file = path.partition("/svg/")[2].rpartition("/")
        svg = content.decode("utf-8", "replace")
        words = _words(svg, folder, Path(file).stem)
        if words and _shows_things(folder) and (picture := _rasterise(svg)):
            yield words, "openclipart", picture


def _words(svg: str, folder: str, stem: str) -> str:
    """Return the title or else the file name, whichever ends in a keyword of the drawing.

    Titles in other languages, or that end in an artist's name, do not.
    """
    keywords = " ".join(re.findall(r"<rdf:li>([^<]*)", svg)).lower()
    known = set(re.findall(r"[a-z]+", f"{keywords} {folder}"))
    title = re.search(r"<dc:title>(?:an? |the )?([^<]*)", svg, re.I)
    for words in (plain_words(title[1]) if title else "", plain_words(stem)):
        if words and {words.split()[-1], f"{words.split()[-1]}s"} & known:
            return words
    return ""


def _shows_things(folder: str) -> bool:
    wanted = folder.startswith(tuple(CHOICE["folders"]))
    return wanted and not folder.startswith(tuple(CHOICE["left_out_folders"]))


def _rasterise(svg: str) -> Image.Image | None:
    """Return the drawing as a cut-out, or None where it cannot be drawn."""
    import resvg_py

    root = re.search(r"<svg\b[^>]*>", svg)
    resized = _with_size(root[0]) if root else ""
    if not resized:
        return None
    try:
        drawn = resvg_py.svg_to_bytes(svg_string=svg.replace(root[0], resized, 1))
    except ValueError:  # a few files are no well-formed SVG
        return None
    return square(Image.open(BytesIO(bytes(drawn))).convert("RGBA"))


def _with_size(root: str) -> str:
    """Return the root element with a size of its own in pixels; "" where it states none."""
    sizes = [_length(root, name) for name in ("width", "height")]
    box = re.search(r"\bviewBox\s*=\s*[\"'][^\"']+[\"']", root)
    if not box and not all(sizes):
        return ""
    bare = re.sub(r"\s(?:width|height|viewBox)\s*=\s*(?:\"[^\"]*\"|'[^']*')", "", root)
    shown = box[0] if box else f'viewBox="0 0 {sizes[0]:g} {sizes[1]:g}"'
    return bare.replace("<svg", f'<svg width="{DRAWN}" height="{DRAWN}" {shown}', 1)


def _length(root: str, name: str) -> float:
    """Return a length of the root element in pixels, 0 where it is absent or relative."""
    found = re.search(rf"\s{name}\s*=\s*[\"']\s*([\d.]+)\s*([a-z]*)", root)
    return float(found[1]) * PIXELS.get(found[2], 0) if found else 0.0


def square(picture: Image.Image) -> Image.Image | None:
    """Crop to what is drawn and centre it on a clear square, `SPRITE_SIZE` px."""
    box = picture.getchannel("A").getbbox()
    if not box:
        return None
    cut = picture.crop(box)
    cut.thumbnail((SPRITE_SIZE, SPRITE_SIZE), Image.Resampling.LANCZOS)
    whole = Image.new("RGBA", (SPRITE_SIZE, SPRITE_SIZE))
    whole.paste(cut, ((SPRITE_SIZE - cut.width) // 2, (SPRITE_SIZE - cut.height) // 2))
    return whole


def furniture(cache: Path) -> Iterator[tuple[str, str, Image.Image]]:
    """Yield words, style and picture of every piece in the furniture catalogues."""
    for path, content in read_debian(cache / "debian", FURNITURE, ".sh3f"):
        if Path(path).stem in CHOICE["catalogues"]:
            yield from _pieces(zipfile.ZipFile(BytesIO(content)))


def _pieces(catalogue: zipfile.ZipFile) -> Iterator[tuple[str, str, Image.Image]]:
    rows = catalogue.read("PluginFurnitureCatalog.properties").decode("latin-1")
    names = dict(re.findall(r"^name#(\d+)=(.*)$", rows, re.M))
    icons = dict(re.findall(r"^icon#(\d+)=/(.*)$", rows, re.M))
    for number, name in names.items():
        if words := plain_words(name.strip()):
            icon = Image.open(BytesIO(catalogue.read(icons[number].strip()))).convert("RGBA")
            if picture := square(icon):
                yield words, "furniture", picture
