"""What stands below the sheet: a picture's actions, the thumbnails, and the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from studio.catalogue import Catalogue
from studio.jobs import ENLARGED_BY, Job
from studio.pictures import Picture
from studio.prompt_syntax import is_plain
from studio.request import GenerationRequest

from ui import words
from ui.adapters import told_of
from ui.starting import STAGE_SCALE

PAGE = 60
"""Thumbnails shown at first, and added by each "More"."""


def render_actions(picture: Picture | None, catalogue: Catalogue) -> str:
    """What can be done with the picture on the sheet."""
    if picture is None:
        return ""
    modify = words.button(
        "modify", "Modify", value=picture.id, title="Draw over it, fill in or extend it"
    )
    seed = picture.recipe.request.seed
    vary = words.button("vary", "Vary", value=picture.id, title="Draw it with a new seed")
    enlarge = (
        f'<button type="button" class="quiet" data-event="enlarge" data-value="{picture.id}"'
        ' title="Make a new picture, four times as wide and as high">Enlarge'
        '<span class="long">&nbsp;x4</span></button>'
    )
    delete = words.button("delete", "Delete", value=picture.id, title="You can undo that")
    return (
        '<div class="actions" role="group" aria-label="This picture">'
        f'<button type="button" class="quiet" data-event="use" data-value="{picture.id}"'
        ' title="Copy its settings into the form">Use<span class="long">&nbsp;settings</span>'
        "</button>"
        f"{vary}{modify}{_next_stage(picture, catalogue)}{enlarge}"
        f'<button type="button" class="quiet" data-copy="{seed}" title="Copy the seed"'
        f' aria-label="Copy seed {seed}"><span class="long">Seed&nbsp;</span>{seed}</button>'
        f'<a class="quiet" href="pictures/{picture.id}.png?download=1" download'
        ' aria-label="Download and save">'
        '<span class="long">Download</span></a>'
        f"{delete}"
        "</div>"
    )


def _next_stage(picture: Picture, catalogue: Catalogue) -> str:
    """The button of a cascade's next model, such as IF's second stage."""
    spec = catalogue.models.get(picture.recipe.request.model)
    following = catalogue.models.get(spec.next_stage or "") if spec else None
    if following is None or picture.recipe.enlarged > 1:
        return ""
    text = f"{following.title}: {STAGE_SCALE * picture.width} px"
    title = f"Let {following.title} draw it four times as wide and as high"
    return words.button("stage", text, value=picture.id, title=title)


def render_strip(pictures: Sequence[Picture], current: str | None, *, more: bool) -> str:
    """The visitor's pictures, newest first; the one on the sheet is marked."""
    if not pictures:
        return ""
    items = "".join(_thumbnail(picture, current) for picture in pictures)
    rest = f"<li>{words.button('more', 'More', title='Show older pictures')}</li>" if more else ""
    return f'<section aria-label="Your pictures"><ul class="strip">{items}{rest}</ul></section>'


def render_details(picture: Picture | None, job: Job | None, catalogue: Catalogue) -> str:
    """The recipe of the picture on the sheet, and what the visitor should know about it."""
    if picture is None:
        return ""
    notes = "".join(f"<p class='note'>{escape(note)}</p>" for note in (job.notes if job else ()))
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        for name, value in _recipe(picture, job, catalogue)
        if value
    )
    return (
        f"<section aria-label='About this picture'>{notes}<details><summary>How it was made"
        f"</summary><dl>{rows}</dl></details></section>"
    )


def _thumbnail(picture: Picture, current: str | None) -> str:
    mark = ' aria-current="true"' if picture.id == current else ""
    prompt = words.shorten(picture.recipe.request.prompt, 120)
    return (
        f'<li><button type="button" data-event="pick" data-value="{picture.id}"{mark}>'
        f'<img src="pictures/{picture.id}.webp" alt="{escape(prompt)}" loading="lazy"'
        ' width="72" height="72"></button></li>'
    )


def _recipe(picture: Picture, job: Job | None, catalogue: Catalogue) -> list[tuple[str, str]]:
    request = picture.recipe.request
    scheduler = catalogue.schedulers.get(request.scheduler)
    drawn = words.size(request.width, request.height)
    kept = words.size(picture.width, picture.height)
    return [
        ("Prompt", request.prompt),
        ("Left out", request.negative_prompt),
        ("Brackets", _brackets(request)),
        ("Model", picture.recipe.model_title),
        ("Scheduler", scheduler.label if scheduler else request.scheduler),
        ("Steps", str(request.num_inference_steps)),
        ("Guidance", f"{request.guidance_scale:g}"),
        ("Seed", str(request.seed)),
        ("Size", f"{kept} px" if kept == drawn else f"{kept} px, drawn at {drawn}"),
        ("Enlarged", _parent(picture)),
        ("Started from", words.start(request)),
        *told_of(request),
        ("Seamless", "" if request.tiling == "none" else words.TILINGS[request.tiling]),
        ("Drawn", "alone, exact to the last bit" if request.exact else ""),
        ("Time", _time(job)),
        ("Made", f"{picture.created_at:%d %B %Y, %H:%M} UTC"),
        ("Weights", picture.recipe.revision),
    ]


def _brackets(request: GenerationRequest) -> str:
    """How the signs in the prompts were read, if there are any."""
    has_signs = not (is_plain(request.prompt) and is_plain(request.negative_prompt))
    return words.SYNTAXES[request.prompt_syntax] if has_signs else ""


def _parent(picture: Picture) -> str:
    if picture.recipe.parent_id is None or picture.recipe.enlarged == 1:
        return ""
    width, height = picture.width // ENLARGED_BY, picture.height // ENLARGED_BY
    return f"from a picture of {words.size(width, height)} px"


def _time(job: Job | None) -> str:
    if job is None or job.started_at is None or job.finished_at is None:
        return ""
    spent = words.seconds((job.finished_at - job.started_at).total_seconds())
    pictures = job.request.num_images
    return spent if pictures == 1 else f"{spent} for {words.count(pictures, 'picture')}"
