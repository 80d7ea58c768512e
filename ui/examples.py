"""Example prompts, as pictures where `assets/examples.toml` has them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A prompt that the built-in model draws well."""

    prompt: str
    seed: int = -1
    negative_prompt: str = ""
    image: str = ""
    """Path under assets/, such as "examples/house.webp"; empty without a picture."""


DEFAULT_EXAMPLES = (
    Example(prompt="a red house with a blue door on a green hill"),
    Example(prompt="a seamless pattern of yellow lemons on navy blue"),
    Example(prompt="a striped dress in teal and cream"),
    Example(prompt="a small room with a bed, a lamp and a window"),
    Example(prompt="an orange cat on a purple background"),
    Example(prompt="a white sailing boat on a calm sea"),
)


def load_examples(assets: Path) -> tuple[Example, ...]:
    """Read `examples.toml`; without it, prompts alone."""
    path = assets / "examples.toml"
    if not path.is_file():
        return DEFAULT_EXAMPLES
    tables = tomllib.loads(path.read_text(encoding="utf-8")).get("example", [])
    return tuple(Example(**table) for table in tables) or DEFAULT_EXAMPLES


def render_examples(examples: tuple[Example, ...]) -> str:
    """A small grid of buttons; each draws its prompt."""
    items = "".join(_item(number, example) for number, example in enumerate(examples))
    listed = f'<ul class="examples">{items}</ul>'
    return f'<section aria-label="Examples"><h2>Try one</h2>{listed}</section>'


def _item(number: int, example: Example) -> str:
    face = f"<span>{escape(example.prompt)}</span>"
    if example.image:
        image = f'<img src="{escape(example.image)}" alt="" width="128" height="128">'
        face = image + face
    kind = "pictured" if example.image else "worded"
    return (
        f'<li><button type="button" class="example {kind}" data-event="example"'
        f' data-value="{number}" title="Draw: {escape(example.prompt)}">{face}</button></li>'
    )
