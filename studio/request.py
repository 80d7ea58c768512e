"""What a visitor asks for: one frozen, validated request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from reprlib import repr as shortened
from typing import Any

from studio.errors import InvalidRequest
from studio.ingredients import (
    PARTS,
    Control,
    Lora,
    Reference,
    SecondPass,
    Start,
    check_number,
    check_source,
    part_from_json,
)
from studio.prompt_syntax import SYNTAXES

MAX_PROMPT_CHARACTERS = 10_000
MAX_SEED = 2**32 - 1
RANDOM_SEED = -1
MAX_KEPT_SIDE = 4096
"""Width and height in px of the largest picture that is kept, enlarged or not."""
LEAST_INSIDE = 8
"""Px that the margins of an extended picture leave of it, at least."""
MAX_LORAS = 5
MAX_EMBEDDINGS = 5
TILINGS = ("none", "x", "y", "both")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One order for `num_images` pictures.

    Raises:
        InvalidRequest: a value breaks its rule. Rules that depend on the model (its sizes,
            its schedulers) or may change (the largest picture that is kept) are checked by
            `Catalogue.check` when the request is submitted, so that every kept one can be read.
    """

    prompt: str
    """What to draw; 1 to 10,000 characters."""
    negative_prompt: str = ""
    """What to keep out; "" is none."""
    model: str
    """Key of a table in assets/models.toml."""
    scheduler: str
    """Key of a table in assets/schedulers.toml."""
    num_inference_steps: int
    """Denoising steps, 1 to 200."""
    guidance_scale: float
    """How closely to follow the prompt, 1 to 30; 1 is off (diffusers' convention)."""
    width: int
    """Drawn width in px, a multiple of 8."""
    height: int
    """Drawn height in px, a multiple of 8."""
    seed: int = RANDOM_SEED
    """0 to 2^32 - 1; -1 draws one at random. Picture i of a request uses `seed + i`."""
    num_images: int = 1
    """Pictures per request, 1 to 16."""
    upscale: int = 1
    """Enlargement after drawing: 1 (none) or 4. The kept picture is `upscale` times as wide."""
    tiling: str = "none"
    """Edges that continue at the opposite one, so that the picture repeats without a seam: "x"
    left and right, "y" top and bottom, "both", or "none"."""
    prompt_syntax: str = "plain"
    """How both prompts are read: "a1111" weighs and changes words by brackets and reads long ones
    in pieces, where the model can; "plain" takes brackets for text and cuts. Requests of before
    there was a choice are plain."""
    start: Start | None = None
    """The picture to start from; None is noise alone."""
    loras: tuple[Lora, ...] = ()
    """Small weights added to the model's own, 5 at most."""
    embeddings: tuple[str, ...] = ()
    """Files with words that were taught to the model (textual inversion), 5 at most; named as
    the source of a LoRA is."""
    control: Control | None = None
    """The picture whose edges, depth or areas are followed."""
    reference: Reference | None = None
    """The picture whose subject and style are taken over."""
    second_pass: SecondPass | None = None
    """The finished drawing enlarged and drawn over; None is not."""
    refiner: bool = False
    """Whether the model's refiner draws the last steps."""
    exact: bool = False
    """Whether its steps are made alone. In company of other jobs they are made faster, and the
    last bits of a sum may differ: by 1 of 255 in a few places of a picture."""

    def __post_init__(self) -> None:
        _check_text("prompt", self.prompt)
        _check_text("negative_prompt", self.negative_prompt)
        if not self.prompt.strip():
            raise InvalidRequest("The prompt is empty: write what you want to see.")
        _check_whole("num_inference_steps", self.num_inference_steps, 1, 200)
        check_number("guidance_scale", self.guidance_scale, 1.0, 30.0)
        _check_side("width", self.width)
        _check_side("height", self.height)
        _check_whole("seed", self.seed, RANDOM_SEED, MAX_SEED)
        _check_whole("num_images", self.num_images, 1, 16)
        if type(self.upscale) is not int or self.upscale not in (1, 4):
            raise InvalidRequest(f"`upscale` must be 1 or 4, got {shortened(self.upscale)}.")
        if self.tiling not in TILINGS:
            raise InvalidRequest(
                f"`tiling` must be one of {', '.join(TILINGS)}, got {shortened(self.tiling)}."
            )
        if self.prompt_syntax not in SYNTAXES:
            raise InvalidRequest(
                f"`prompt_syntax` must be one of {', '.join(SYNTAXES)}, got "
                f"{shortened(self.prompt_syntax)}."
            )
        self._check_parts()

    def _check_parts(self) -> None:
        """Each part has checked its own values."""
        for name, kind in PARTS.items():
            if not isinstance(getattr(self, name), (kind, type(None))):
                raise InvalidRequest(f"`{name}` must be a {kind.__name__}.")
        _check_several("loras", self.loras, Lora, MAX_LORAS)
        _check_several("embeddings", self.embeddings, str, MAX_EMBEDDINGS)
        for source in self.embeddings:
            check_source("embedding", source)
        left, top, right, below = self.start.margins if self.start else (0, 0, 0, 0)
        if min(self.width - left - right, self.height - top - below) < LEAST_INSIDE:
            raise InvalidRequest(
                f"`margins` must leave {LEAST_INSIDE} px of {self.width} x {self.height}."
            )
        for name in ("refiner", "exact"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise InvalidRequest(f"`{name}` must be on or off, got {shortened(value)}.")

    @property
    def pictures(self) -> tuple[str, ...]:
        """Ids of the pictures that it names, each once."""
        start, parts = self.start, (self.control, self.reference)
        named = [start.picture, start.mask] if start else []
        named += [part.picture for part in parts if part]
        return tuple(dict.fromkeys(picture for picture in named if picture))

    def with_seed(self, seed: int) -> GenerationRequest:
        """The same request with another seed."""
        return replace(self, seed=seed)

    def to_json(self) -> dict[str, Any]:
        """The request as plain values, without the parts that it does not use."""
        values = asdict(self)
        unused = {name for name in _OPTIONAL if not values[name]}
        return {name: value for name, value in values.items() if name not in unused}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> GenerationRequest:
        """The inverse of `to_json`, also for values that came through JSON.

        Raises:
            InvalidRequest, TypeError: they are not a request's.
        """
        given = dict(values)
        for name, kind in PARTS.items():
            if given.get(name):
                given[name] = part_from_json(kind, given[name])
        given["loras"] = tuple(part_from_json(Lora, one) for one in given.get("loras", ()))
        given["embeddings"] = tuple(given.get("embeddings", ()))
        return cls(**given)


_OPTIONAL = (*PARTS, "loras", "embeddings", "refiner", "exact")


def check_kept_size(width: int, height: int) -> None:
    """Refuse an enlarged picture (px) that is too large; raises InvalidRequest."""
    if max(width, height) > MAX_KEPT_SIDE:
        raise InvalidRequest(
            f"`upscale` would make {width} x {height} px; a picture has at most {MAX_KEPT_SIDE} "
            "px a side."
        )


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise InvalidRequest(f"`{name}` must be text, got {type(text).__name__}.")
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise InvalidRequest(
            f"`{name}` must have at most {MAX_PROMPT_CHARACTERS:,} characters, got {len(text):,}."
        )
    if "\x00" in text:
        raise InvalidRequest(f"`{name}` holds a null character: remove it and try again.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise InvalidRequest(f"`{name}` holds half a character: type it again.") from exc


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidRequest(
            f"`{name}` must be a whole number between {low} and {high}, got {shortened(value)}."
        )


def _check_several(name: str, values: object, kind: type, most: int) -> None:
    is_right = isinstance(values, tuple) and all(isinstance(value, kind) for value in values)
    if not is_right or len(values) > most:  # type: ignore[arg-type]
        raise InvalidRequest(f"`{name}` must be at most {most}, got {shortened(values)}.")


def _check_side(name: str, value: object) -> None:
    _check_whole(name, value, 64, 2048)
    if isinstance(value, int) and value % 8:
        raise InvalidRequest(f"`{name}` must be a multiple of 8 between 64 and 2048, got {value}.")
