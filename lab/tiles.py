"""Two-colour tiles out of a package of background patterns: what they cover repeats seamlessly."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from PIL import Image

from lab.example import SIZE
from lab.sources import TILES, fetch
from lab.stamp_words import CHOICE

OVERSAMPLING = 6
SIDE = SIZE * OVERSAMPLING
REPEATS = (1, 2, 3, 4, 6, 8, 12)
"""How often a tile may lie along a side: all divide SIDE, so that every repeat is whole pixels."""
SPANS = (60, 110)
"""How many units of its own drawing a picture spans, near and far."""


def tiles(cache: Path) -> Iterator[tuple[str, str, Image.Image]]:
    """Yield words, style and cover of every tile, near and far; the cover is the alpha."""
    with tarfile.open(fetch(cache / "npm", TILES)) as packed:
        script = packed.extractfile("package/dist/hero-patterns.cjs.js").read().decode()
    for name, svg in read_tiles(script).items():
        for span in SPANS:
            yield CHOICE["tiles"][name], "hero-patterns", lay(svg, span)


def read_tiles(script: str) -> dict[str, str]:
    """Return name -> SVG of every tile of the package that has words; its motif is black."""
    parts = re.split(r"exports\.(\w+)=", script)
    found = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        black = re.sub(r'"\)?\.concat\(\w+\(\w+\),"', "000000", body)
        whole = re.sub(r'"\)?\.concat\(\w+,"', "1", black)
        svg = re.search(r"%3Csvg.*?%3C%2Fsvg%3E", whole)
        if svg and name in CHOICE["tiles"]:
            found[name] = unquote(svg[0])
    return found


def lay(svg: str, span: float) -> Image.Image:
    """Repeat a tile over the picture, RGBA, so that about `span` of its units lie along a side."""
    import resvg_py

    wide, tall = (
        float(edge) for edge in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()
    )
    across, down = (
        min(REPEATS, key=lambda n, edge=edge: abs(np.log(n * edge / span))) for edge in (wide, tall)
    )
    root = re.search(r"<svg[^>]*>", svg)[0]
    bare = re.sub(r'\s(?:width|height)="[^"]*"', "", root)
    sized = bare.replace(
        "<svg", f'<svg width="{SIDE // across}" height="{SIDE // down}" preserveAspectRatio="none"'
    )
    drawn = bytes(resvg_py.svg_to_bytes(svg_string=svg.replace(root, sized)))
    tile = np.asarray(Image.open(BytesIO(drawn)).convert("RGBA"))
    return Image.fromarray(np.tile(tile, (down, across, 1))).reduce(OVERSAMPLING)
