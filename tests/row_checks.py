"""What must hold of a row of assets/models.toml by itself.

Each check yields what is wrong with a row, in words, and nothing if all is well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields

from studio.catalogue import Catalogue
from studio.settings import ROOT
from studio.specs import ModelSpec

HUB = re.compile(r"[\w.-]+/[\w.-]+(@[0-9a-f]{40})?")
HUB_FILE = re.compile(r"[\w.-]+/[\w.-]+/[\w./-]+\.safetensors")


def steps_and_sizes_are_in_bounds(row: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    own = row.defaults
    if not 1 <= row.min_steps <= own.num_inference_steps <= row.max_steps <= 200:
        yield "its default steps are outside its own limits, or those outside 1 to 200"
    always = catalogue.schedulers[own.scheduler].fixed_steps
    if always not in (None, own.num_inference_steps):
        yield f"its default scheduler always takes {always} steps"
    if row.multiple_of % 8 or row.min_side % row.multiple_of or row.max_side % row.multiple_of:
        yield "its limits are no multiples of `multiple_of`, or that is none of 8"
    for side in (own.width, own.height):
        if not row.min_side <= side <= row.max_side or side % row.multiple_of:
            yield f"its default side of {side} px is outside its limits"
    if own.upscale not in row.upscale_choices:
        yield "its default enlarging is none of its choices"


def what_is_uncertain_is_a_field(row: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    known = {spec.name for spec in fields(ModelSpec)}
    yield from (f"{name} is no field" for name in row.uncertain if name not in known)
    yield from (f"{name} has no value" for name in row.uncertain if getattr(row, name, 0) is None)
    if len(set(row.uncertain)) < len(row.uncertain):
        yield "an uncertain field is named twice"


def sources_are_well_formed(row: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    for source in (*row.sources, *row.prior_sources):
        if not HUB.fullmatch(source) and not (ROOT / source / "model_index.json").is_file():
            yield f"{source} is no Hub id and no folder here"
    if row.hub_lora is not None and not HUB_FILE.fullmatch(row.hub_lora):
        yield f"{row.hub_lora} is no file of a Hub repository"


def law_is_told(row: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    if not row.licence_url.startswith("https://") or not row.licence.strip():
        yield "its licence has no name or no https address"
    allowed = {
        "commercial_use": ("yes", "no", "conditional", "unknown"),
        "gated": ("yes", "no", "unknown"),
        "status": ("stable", "experimental"),
    }
    for name, values in allowed.items():
        if getattr(row, name) not in values:
            yield f"`{name}` must be one of {values}"
    if "non-commercial" in row.licence.lower() and row.commercial_use != "no":
        yield "a non-commercial licence allows no commercial use"


def words_are_short(row: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    if not 20 <= len(row.summary) <= 180 or row.summary.endswith("."):
        yield "its summary is one line of 20 to 180 characters without a full stop"
    if sum(row.title == other.title for other in catalogue.models.values()) > 1:
        yield "two rows have its title"


def memory_is_plausible(row: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    if row.memory_gb <= 0 or row.download_gb < 0:
        yield "it takes no memory"
    if row.memory_offload_gb is not None and not 0 < row.memory_offload_gb < row.memory_gb:
        yield "offload must take less memory"
    if row.download_gb > 2.5 * row.memory_gb:
        yield "its files are far larger than what they take in memory"


def rows_that_it_names_are_there(row: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    named = {"next_stage": "upscaling", "refiner": "image_to_image", "text_encoder": None}
    for name, task in named.items():
        key = getattr(row, name)
        other = catalogue.models.get(key or "")
        if key is not None and other is None:
            yield f"`{name}` names no row"
        elif other is not None and task is not None and task not in other.tasks:
            yield f"`{name}` names a row that cannot do {task}"


CHECKS = (
    steps_and_sizes_are_in_bounds,
    what_is_uncertain_is_a_field,
    sources_are_well_formed,
    law_is_told,
    words_are_short,
    memory_is_plausible,
    rows_that_it_names_are_there,
)
