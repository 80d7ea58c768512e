"""What a form names and is not here any more, or never was: pictures of others, deleted ones."""

from __future__ import annotations

from collections.abc import Mapping

from studio.errors import NotFound
from studio.request import GenerationRequest
from studio.studio import Studio

from ui.adapters import adapter_defaults
from ui.form import PART_FIELDS, from_request
from ui.passes import pass_defaults
from ui.starting import start_defaults

MISSING = "A picture that it started from or followed is not here: that part was left out."
_NAMES = ("start_picture", "start_mask", "control_picture", "reference_picture")


def without_missing(studio: Studio, owner: str, values: Mapping[str, object]) -> dict[str, object]:
    """The fields that must be emptied, since their picture is not among this visitor's."""
    emptied: dict[str, object] = {}
    for name in _NAMES:
        if values.get(name) and not _is_here(studio, owner, str(values[name])):
            emptied |= start_defaults() if name == "start_picture" else {name: ""}
    return emptied


def parts_of(
    studio: Studio, owner: str, request: GenerationRequest | None
) -> tuple[dict[str, object], bool]:
    """The form's fields for what a found request starts from and adds, and whether some lack.

    A request that names nothing of that, or none at all, empties them.
    """
    if request is None:
        return start_defaults() | pass_defaults() | adapter_defaults(), False
    values = from_request(request)
    parts = {name: value for name, value in values.items() if name in PART_FIELDS}
    if request.start is not None and request.start.task == "outpainting":
        parts |= {"width": values["width"], "height": values["height"]}
    emptied = without_missing(studio, owner, parts)
    return parts | emptied, bool(emptied)


def _is_here(studio: Studio, owner: str, picture_id: str) -> bool:
    try:
        studio.find_image(picture_id, owner)
    except NotFound:
        return False
    return True
