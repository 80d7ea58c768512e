"""The picture's place: an empty sheet, the forming picture, the result, or what went wrong.

Everything a visitor or a file wrote is escaped here; the functions return HTML.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from studio.jobs import Job, JobState
from studio.pictures import Picture
from studio.progress import Progress
from studio.request import GenerationRequest

from ui import words


def render_empty(width: int, height: int, examples: str) -> str:
    """The sheet before the first picture; the examples show on narrow screens only."""
    text = "<p>Write what you want to see, then press Create.</p>"
    return _sheet(width, height, f'<div class="blank">{text}{examples}</div>', "empty")


def render_picture(picture: Picture, *, browsing: bool = False) -> str:
    """One finished picture, whole, as large as the place allows."""
    alt = escape(words.shorten(picture.recipe.request.prompt, 500))
    image = (
        f'<img src="pictures/{picture.id}.png" alt="{alt}" width="{picture.width}"'
        f' height="{picture.height}">'
    )
    return _sheet(picture.width, picture.height, image, "picture", browsing)


def render_several(pictures: Sequence[Picture]) -> str:
    """All pictures of one job; each is a button that shows it large."""
    cells = "".join(
        f'<li><button type="button" data-event="pick" data-value="{picture.id}"'
        f' aria-label="Show picture {number} of {len(pictures)}">'
        f'<img src="pictures/{picture.id}.png" width="{picture.width}"'
        f' height="{picture.height}" alt="{escape(words.shorten(_prompt(picture), 500))}">'
        "</button></li>"
        for number, picture in enumerate(pictures, start=1)
    )
    columns = 2 if len(pictures) <= 4 else 3 if len(pictures) <= 9 else 4
    rows = -(-len(pictures) // columns)
    first = pictures[0]
    contact = f'<ul class="contact" style="--columns:{columns}">{cells}</ul>'
    return _sheet(first.width * columns, first.height * rows, contact, "several")


def render_failed(job: Job) -> str:
    """What happened, why, and what to do next; the form keeps what was typed."""
    why = escape(words.plain(job.error or "Something went wrong inside Croquis."))
    text = (
        f'<div class="blank failed" role="alert"><h2>This picture could not be {_done(job)}</h2>'
        f"<p>{why}</p><p>Your prompt and settings are as you left them. Change something and "
        "press Create, or try the same again.</p>"
        f"{words.button('retry', 'Try again', value=job.id)}</div>"
    )
    return _sheet(job.request.width, job.request.height, text, "failure")


def render_stopped(job: Job, kept: int) -> str:
    """A run that the visitor stopped, and what was kept of it."""
    saved = f"{words.count(kept, 'picture')} kept, see below." if kept else "No picture was kept."
    again = "Draw it after all" if job.enlargement is None else "Enlarge it after all"
    text = (
        f'<div class="blank"><h2>Stopped</h2><p>{saved} Your prompt and settings are as you '
        f"left them.</p>{words.button('retry', again, value=job.id)}</div>"
    )
    return _sheet(job.request.width, job.request.height, text, "stopped")


def render_live(progress: Progress, request: GenerationRequest) -> str:
    """The layer over the sheet while a job is active: its preview, or what it waits for."""
    is_taken = progress.state is not JobState.QUEUED
    if progress.preview:
        code = base64.b64encode(progress.preview).decode()
        inner = (
            f'<img class="preview" src="data:image/jpeg;base64,{code}" alt="The picture so far">'
        )
    elif progress.state is JobState.RUNNING or (is_taken and progress.is_enlargement):
        inner = '<div class="blank"><p>The first marks appear in a moment.</p></div>'
    else:
        inner = f'<div class="blank">{_waiting(progress)}</div>'
    return _sheet(request.width, request.height, inner, progress.state.value)


def render_progress(progress: Progress, others: int) -> str:
    """The line under the sheet, in numbers; `data-say` is what page.js tells a screen reader."""
    text = progress_text(progress)
    more = f"; {others} more waiting" if others else ""
    done, total = _fraction(progress)
    bar = f'<progress max="{total}" value="{done}" aria-label="{escape(text)}"></progress>'
    everything = words.button("stop_all", "Stop all", title="Stop this one and those that wait")
    return (
        f'<div class="progress" data-say="{escape(text + more)}">{bar}'
        f'<p><span class="numbers">{escape(text + more)}</span>'
        f"{words.button('follow', 'Watch it', css='quiet follow')}"
        f"{everything if others else ''}</p></div>"
    )


def progress_text(progress: Progress) -> str:
    """Where a job stands, in one line of plain words."""
    if progress.state is JobState.QUEUED:
        line = words.place(progress.position or 1).capitalize()
        return line if progress.eta_s is None else f"{line}, about {_rough(progress.eta_s)}"
    if progress.state is JobState.LOADING:
        text = progress.message or "Loading the model"
        return text if progress.eta_s is None else f"{text}, about {_rough(progress.eta_s)}"
    text = f"step {progress.step} of {progress.total_steps}"
    if progress.is_enlargement or progress.parts:
        done, total = _counted(progress)
        text = f"enlarging, {done} of {words.count(total, 'part')} done"
    if progress.num_images > 1:
        text = f"picture {progress.image_index + 1} of {progress.num_images}, {text}"
    left = "" if progress.eta_s is None else f", {words.seconds(progress.eta_s)} left"
    return (text + left)[0].upper() + (text + left)[1:]


def _waiting(progress: Progress) -> str:
    if progress.state is JobState.LOADING:
        return (
            f"<h2>{escape(progress.message or 'Loading the model')}</h2><p>Only the first picture "
            "of a model waits for this. You can go on writing meanwhile.</p>"
        )
    return (
        f"<h2>{escape(words.place(progress.position or 1).capitalize())}</h2><p>Visitors take "
        "turns. You can go on writing; another click on Create draws after this one.</p>"
    )


def _done(job: Job) -> str:
    return "drawn" if job.enlargement is None else "enlarged"


def _sheet(width: int, height: int, inner: str, kind: str, browsing: bool = False) -> str:
    mark = " data-browsing" if browsing else ""
    return f'<div class="sheet {kind}" style="--aspect:{width / height:.4f}"{mark}>{inner}</div>'


def _fraction(progress: Progress) -> tuple[int, int]:
    """Steps (or parts) done and in all, over all pictures of the job."""
    done, total = _counted(progress)
    total = max(total, 1)
    if progress.state is not JobState.RUNNING:
        return 0, total
    return progress.image_index * total + done, total * max(progress.num_images, 1)


def _counted(progress: Progress) -> tuple[int, int]:
    """What moves now, done and in all: the parts of a drawn picture, or else the steps."""
    if progress.parts:
        return progress.part, progress.parts
    return progress.step, progress.total_steps


def _rough(value: float) -> str:
    return words.seconds(max(1.0, round(value)) if value < 9.95 else value).replace(".0 s", " s")


def _prompt(picture: Picture) -> str:
    return picture.recipe.request.prompt
