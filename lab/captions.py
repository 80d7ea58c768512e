"""How a caption is worded: articles, plurals, openings and endings around an exact core."""

from __future__ import annotations

import numpy as np

OPENINGS = ("",) * 6 + ("an illustration of ", "a picture of ", "a drawing of ")
ENDINGS = ("",) * 7 + (", digital art", ", simple, clean", ", high quality")

STYLE_SHARE = 0.3
"""How often a caption says the style of its drawings."""
STYLE_WORDS: dict[str, tuple[str, ...]] = {
    "fluent-3d": ("3D render of {}", "{}, 3D render", "a glossy 3D {}", "{}, 3D"),
    "fluent-emoji": ("glossy illustration of {}", "{}, soft gradients", "glossy emoji of {}"),
    "fluent-emoji-flat": ("flat emoji of {}", "flat illustration of {}", "{}, flat design"),
    "noto": ("cartoon of {}", "{}, cartoon style", "cartoon emoji of {}"),
    "noto-v1": ("retro emoji of {}", "{}, retro emoji"),
    "twemoji": ("flat emoji of {}", "{}, simple flat emoji"),
    "emojione": ("classic emoji of {}", "{}, classic emoji"),
    "fxemoji": ("minimal icon of {}", "{}, minimal icon"),
    "streamline-emojis": ("outlined cartoon of {}", "{}, bold outlines"),
    "game-icons": ("{}", "{}, one colour"),
    "streamline-kameleon-color": ("round badge of {}", "{}, badge icon"),
    "streamline-stickies-color": ("sticker of {}", "{}, sticker"),
    "flat-color-icons": ("flat icon of {}", "{}, flat icon"),
    "openclipart": ("clip art of {}", "{}, clip art"),
    "furniture": ("3D model of {}", "{}, 3D model"),
}
"""Source of a drawing -> how a caption may say its style; the first is the style's own."""

PLURALS = {
    "mouse": "mice",
    "sheep": "sheep",
    "deer": "deer",
    "fish": "fish",
    "wolf": "wolves",
    "leaf": "leaves",
    "tomato": "tomatoes",
    "volcano": "volcanoes",
    "cactus": "cacti",
    "spaceman": "spacemen",
    "snowman": "snowmen",
}
"""Plurals that no rule gives; a longer phrase takes the plural of its last word."""


def with_article(rng: np.random.Generator, phrase: str, chance: float = 0.85) -> str:
    """Put "a" or "an" before a phrase, most of the time."""
    if rng.random() > chance:
        return phrase
    return f"{article(phrase)} {phrase}"


def article(phrase: str) -> str:
    """Return "a" or "an", whichever sounds right before a phrase."""
    spoken_you = phrase.startswith(("unicorn", "uni", "ewe", "ufo"))
    return "an" if phrase[0] in "aeiou" and not spoken_you else "a"


def plural(phrase: str) -> str:
    """Return the plural of a noun phrase: "cups of coffee", "maple leaves", "mice"."""
    head, of, tail = phrase.partition(" of ")
    if of:
        return f"{plural(head)}{of}{tail}"
    before, space, noun = head.rpartition(" ")
    return before + space + _plural_noun(noun)


def _plural_noun(noun: str) -> str:
    if noun in PLURALS:
        return PLURALS[noun]
    if noun.endswith(("s", "x", "sh", "ch")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def dress_up(rng: np.random.Generator, core: str, style: str = "") -> str:
    """Return the core with a random opening and ending, or with words for its style."""
    if style and rng.random() < STYLE_SHARE:
        return in_style(str(rng.choice(STYLE_WORDS[style])), core)
    return f"{OPENINGS[rng.integers(len(OPENINGS))]}{core}{ENDINGS[rng.integers(len(ENDINGS))]}"


def in_style(words: str, core: str) -> str:
    """Put a core into words for a style; of "a glossy 3D" and "a fox" one article goes.

    What is several has none: "glossy 3D three zebras" is not said, "three zebras, glossy 3D" is.
    """
    if not words.startswith("a "):
        return words.format(core)
    for its_own in ("a ", "an "):
        if core.startswith(its_own):
            return words.format(core.removeprefix(its_own))
    return f"{core}, {words.removeprefix('a ').removesuffix(' {}')}"


def on_ground(rng: np.random.Generator, colour: str) -> str:
    """Return the words for a plain ground of a colour."""
    noun = ("background", "background", "ground")[rng.integers(3)]
    return f" on {article(colour)} {colour} {noun}"


def listed(words: list[str]) -> str:
    """Join words as English does: "red", "red and blue", "red, blue and green"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
