"""Contact sheets: pictures in a grid with their prompts under them."""

from __future__ import annotations

from textwrap import wrap

from PIL import Image, ImageDraw

LINES = 3
LINE_HEIGHT = 11


def contact_sheet(
    pictures: list[Image.Image], labels: list[str], columns: int = 10, side: int = 128
) -> Image.Image:
    """Lay pictures out in rows, `side` px each, with up to three lines of label."""
    cell = side + LINES * LINE_HEIGHT + 8
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (side + 4), rows * cell), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left, top = index % columns * (side + 4), index // columns * cell
        sheet.paste(picture.resize((side, side), Image.Resampling.BICUBIC), (left, top))
        for line, text in enumerate(wrap(label, side // 6)[:LINES]):
            pen.text((left, top + side + line * LINE_HEIGHT), text, fill="black")
    return sheet
