"""Rooms: a wall, a floor and furniture in named colours."""

from __future__ import annotations

import numpy as np

from lab import captions
from lab.canvas import Canvas
from lab.example import Example
from lab.furniture import FLOOR_PIECES, WALL_PIECES, WOOD
from lab.palette import Rgb, contrasting, jitter, say, shade

COLOURED = ("sofa", "armchair", "bed", "round table", "square table", "bookshelf", "lamp")
WORDS = {
    "sofa": ("sofa", "couch"),
    "plant": ("plant", "potted plant"),
    "picture": ("picture on the wall", "framed picture"),
    "lamp": ("lamp", "floor lamp"),
    "square table": ("square table", "table"),
    "bookshelf": ("bookshelf", "bookcase"),
}


def draw_room(rng: np.random.Generator) -> Example:
    """Draw a room with one to three pieces of furniture, each in the caption."""
    wall, floor, *tones = contrasting(rng, 4, 70)
    canvas = Canvas(jitter(rng, wall))
    canvas.box(0, 70, 100, 100, jitter(rng, floor))
    canvas.box(0, 68.5, 100, 70.5, shade(jitter(rng, wall), 1.6))
    rug = rng.random() < 0.2
    if rug:
        canvas.disc(50, 88, 40, jitter(rng, tones[1]), 0.26)
    parts, named = _furnish(canvas, rng, tones)
    if rug:
        parts.append(captions.with_article(rng, f"{say(rng, tones[1])} rug", 1))
        named.append(tones[1])
    caption, said = _word_room(rng, parts, wall, floor)
    return Example(
        image=canvas.finish(),
        caption=caption,
        kind="room",
        thing=parts[0].split(" ", 1)[1],
        colours=(*named, *said),
    )


def _furnish(
    canvas: Canvas, rng: np.random.Generator, tones: list[str]
) -> tuple[list[str], list[str]]:
    """Stand pieces side by side until the floor is full; return their words and colours."""
    parts, named = [], []
    if rng.random() < 0.55:
        name = str(rng.choice(list(WALL_PIECES)))
        WALL_PIECES[name](
            canvas, rng.uniform(24, 76), (245, 245, 245) if name == "window" else WOOD
        )
        parts.append(_word_piece(rng, name, ""))
    room, chosen = 98.0, []
    for name in _pick_pieces(rng):
        if FLOOR_PIECES[name][1] <= room:
            chosen.append(str(name))
            room -= FLOOR_PIECES[name][1]
    left = 1 + room * rng.uniform(0.2, 0.5)
    for index, name in enumerate(chosen):
        paint, width = FLOOR_PIECES[name]
        tone = tones[0] if index == 0 and name in COLOURED else ""
        paint(canvas, left + width / 2, jitter(rng, tone) if tone else _plain_tone(name))
        parts.insert(
            0 if tone else len(parts), _word_piece(rng, name, say(rng, tone) if tone else "")
        )
        named += [tone] if tone else []
        left += width + room * 0.2
    return parts, named


def _pick_pieces(rng: np.random.Generator) -> list[str]:
    """Return pieces for the floor, the first one coloured; often those of a living room."""
    if rng.random() < 0.3:
        seat = "sofa" if rng.random() < 0.7 else "armchair"
        return [seat, *(str(name) for name in rng.permutation(("plant", "round table")))]
    order = [str(name) for name in rng.permutation(list(FLOOR_PIECES))]
    return order[: int(rng.integers(1, 4)) + 1]


def _plain_tone(name: str) -> Rgb:
    return {
        "plant": (196, 106, 70),
        "lamp": (250, 236, 190),
        "sofa": (120, 124, 134),
        "armchair": (120, 124, 134),
        "bed": (130, 150, 180),
    }.get(name, WOOD)


def _word_piece(rng: np.random.Generator, name: str, colour: str) -> str:
    word = str(rng.choice(WORDS.get(name, (name,))))
    return captions.with_article(rng, f"{colour} {word}".strip(), 1)


def _word_room(
    rng: np.random.Generator, parts: list[str], wall: str, floor: str
) -> tuple[str, list[str]]:
    """Return the caption and the colours of the shell that it names."""
    room = (
        "bedroom"
        if any("bed" in part.split() for part in parts)
        else str(rng.choice(("living room", "room", "living room")))
    )
    chance = rng.random()
    shell, said = "", []
    if chance < 0.35:
        walls = f"{say(rng, wall)} walls"
        shell = f" with {walls} and {captions.with_article(rng, say(rng, floor), 1)} floor,"
        said = [wall, floor]
    elif chance < 0.6:
        shell, said = f" with {say(rng, wall)} walls,", [wall]
    joint = "" if shell else " with"
    return captions.dress_up(
        rng, f"{captions.with_article(rng, room, 0.9)}{shell}{joint} {captions.listed(parts)}"
    ), said
