"""Small pieces of text that several parts of the page write the same way."""

from __future__ import annotations

import re
from html import escape

from studio.request import GenerationRequest

LABELS = {
    "prompt": "Prompt",
    "negative_prompt": "Leave out",
    "model": "Model",
    "scheduler": "Scheduler",
    "num_inference_steps": "Steps",
    "guidance_scale": "Guidance",
    "width": "Width",
    "height": "Height",
    "seed": "Seed",
    "num_images": "Pictures",
    "upscale": "Enlarge",
    "tiling": "Seamless",
    "prompt_syntax": "Brackets",
    "exact": "Draw alone",
    "second_scale": "Draw twice",
    "second_strength": "Change by the second drawing",
    "refiner": "Refine",
    "start_task": "What becomes of it",
    "start_area": "Where",
    "start_strength": "Change",
    "strength": "Change",
    "extend_left": "Left",
    "extend_top": "Above",
    "extend_right": "Right",
    "extend_bottom": "Below",
    "margins": "Extend",
}
"""What the page calls each field of a request."""

TILINGS = {"none": "off", "x": "sideways", "y": "up and down", "both": "both"}
"""What the page calls each tiling."""

SYNTAXES = {"a1111": "weigh words", "plain": "are text"}
"""What the page calls each way to read prompts."""


def plain(message: str) -> str:
    """An error's text with the page's labels in place of field names: `width` -> Width."""
    return re.sub(r"`(\w+)`", lambda found: LABELS.get(found[1], found[1]), message)


def seconds(value: float) -> str:
    """A duration with its unit: "1.4 s", "12 s", "3 min"."""
    if value < 9.95:
        return f"{max(value, 0.0):.1f} s"
    return f"{value:.0f} s" if value < 90 else f"{value / 60:.0f} min"


TASKS = {
    "text_to_image": "Draw from words",
    "image_to_image": "Draw over it",
    "inpainting": "Fill in what is painted over",
    "outpainting": "Extend its edges",
    "depth_to_image": "Keep its depth",
    "upscaling": "Enlarge it with the model",
    "text_to_3d": "A solid from words",
    "image_to_3d": "A solid from it",
}
"""What the page calls each task of a model."""


def start(request: GenerationRequest) -> str:
    """What a request starts from, in words; "" is noise alone."""
    if request.start is None:
        return ""
    whose = "your picture" if request.start.picture.startswith("input-") else "a picture here"
    changed = f"{request.start.strength:.0%} changed"
    return f"{whose}: {TASKS[request.start.task].lower()}, {changed}"


def place(position: int) -> str:
    """A place in the queue, 1 is next: "next in line", "2nd in line"."""
    if position <= 1:
        return "next in line"
    last = {1: "st", 2: "nd", 3: "rd"}.get(position % 10, "th")
    ending = "th" if 10 <= position % 100 <= 20 else last
    return f"{position}{ending} in line"


def size(width: int, height: int) -> str:
    """A size in px, width first."""
    return f"{width} × {height}"


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 picture", "4 pictures"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shorten(text: str, characters: int) -> str:
    """The text on one line, cut at `characters` with an ellipsis."""
    line = " ".join(text.split())
    return line if len(line) <= characters else line[: characters - 1].rstrip() + "…"


def button(event: str, text: str, *, value: str = "", css: str = "quiet", title: str = "") -> str:
    """A button inside a clickable gr.HTML (ui/clickable.py) that triggers `event`."""
    hint = f' title="{escape(title)}"' if title else ""
    return (
        f'<button type="button" class="{css}" data-event="{event}" data-value="{escape(value)}"'
        f"{hint}>{escape(text)}</button>"
    )
