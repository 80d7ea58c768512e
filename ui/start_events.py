"""What happens when a visitor starts from a picture: each event is one method here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import gradio as gr
from studio.errors import InvalidRequest
from studio.ingredients import Start
from studio.specs import ModelSpec
from studio.studio import Studio

from ui import sizes, words
from ui.form import Values
from ui.parts import Parts, Undo, View, render_notice
from ui.refusing import value_of
from ui.showing import Show, Updates, stop_button
from ui.starting import (
    AREAS,
    STAGE_SCALE,
    is_painting,
    mask_from_area,
    mask_from_paint,
    start_defaults,
    tasks_of,
)
from ui.visitor import keeping_owner_of, owner_of


class StartEvents:
    """The event functions around the picture to start from."""

    def __init__(self, studio: Studio, parts: Parts, show: Show) -> None:
        self._studio = studio
        self._parts = parts
        self._show = show

    def on_modify(
        self, event: gr.EventData, asked: str, request: gr.Request, **values: object
    ) -> Updates:
        """Let the form start from a kept picture."""
        return self._start(asked, value_of(event), owner_of(request), values)

    def on_brought(
        self, asked: str, brought: str | None, request: gr.Request, **values: object
    ) -> Updates:
        """Keep a picture of the visitor's, and let the form start from it."""
        if not brought:
            raise InvalidRequest("No picture arrived: choose one again.")
        file, owner = Path(brought), keeping_owner_of(request)
        try:
            kept = self._studio.keep_input(file, owner)
        finally:
            file.unlink(missing_ok=True)
        return self._start(asked, kept, owner, values)

    def on_unstart(self, asked: str, request: gr.Request, **values: object) -> Updates:
        """Draw from words alone again."""
        taken: Values = {"start_picture": "", "start_mask": ""}
        return self._changed(asked, owner_of(request), values, taken)

    def on_choice(self, asked: str, request: gr.Request, **values: object) -> Updates:
        """Show what the choice needs; a mask kept before belongs to the choice before."""
        return self._changed(asked, owner_of(request), values, {"start_mask": ""})

    def on_second(self, asked: str, **values: object) -> Updates:
        """Show how much the second drawing may change, if there is to be one."""
        return self._show.form(asked, {}, values)

    def on_stage(self, event: gr.EventData, view: View, request: gr.Request) -> Updates:
        """Let the next model of a cascade enlarge a picture."""
        owner = keeping_owner_of(request)
        picture = self._studio.picture(value_of(event), owner)
        before = picture.recipe.request
        key = self._studio.catalogue.get_model(before.model).next_stage
        if key is None:
            raise InvalidRequest("This picture's model has no stage after it.")
        order = replace(
            self._studio.default_request(key, before.prompt),
            negative_prompt=before.negative_prompt,
            seed=before.seed,
            width=STAGE_SCALE * picture.width,
            height=STAGE_SCALE * picture.height,
            start=Start(task="upscaling", picture=picture.id),
        )
        job = self._studio.submit(order, owner)
        updates = self._show.look(owner, replace(view, browsing=False))
        started: Updates = {self._parts.started: job.id, self._parts.undo: Undo()}
        return updates | started | {self._parts.stop: stop_button(enabled=True)}

    def _start(
        self, asked: str, picture_id: str, owner: str, values: Mapping[str, object]
    ) -> Updates:
        model = self._studio.catalogue.get_model(str(values["model"]))
        tasks = tasks_of(model)
        if not tasks:
            raise InvalidRequest(
                f"{model.title} draws from words alone. Choose another model, then try again."
            )
        width, height = self._studio.image(picture_id, owner).size
        task = values.get("start_task")
        taken = start_defaults() | {"start_picture": picture_id}
        taken["start_task"] = task if task in tasks else tasks[0]
        taken |= _size(model, str(taken["start_task"]), width, height)
        updates = self._changed(asked, owner, values, taken)
        said = f"The next drawing starts from this picture. {words.TASKS[str(taken['start_task'])]}"
        updates[self._parts.undo] = Undo(values=dict(values))
        updates[self._parts.notice] = render_notice(f"{said}, or choose below.", undo=True)
        return updates

    def _changed(
        self, asked: str, owner: str, values: Mapping[str, object], taken: Values
    ) -> Updates:
        whole = {**values, **taken}
        return self._show.form(asked, taken, whole) | self._show.paint(owner, whole)


def with_mask(studio: Studio, owner: str, values: Mapping[str, object]) -> Values:
    """The form's values with the mask kept: the area that was chosen, or what was painted."""
    painted, plain = values.get("start_paint"), dict(values)
    plain.pop("start_paint", None)
    if values.get("start_task") != "inpainting" or not values.get("start_picture"):
        return plain
    mask = None
    if is_painting(values):
        mask = mask_from_paint(painted if isinstance(painted, dict) else None)
    elif values.get("start_area") in AREAS:
        size = studio.image(str(values["start_picture"]), owner).size
        mask = mask_from_area(str(values["start_area"]), size)
    return plain | ({"start_mask": studio.keep_input(mask, owner)} if mask else {})


def _size(model: ModelSpec, task: str, width: int, height: int) -> Values:
    """The size to draw at: of the picture's shape, or four times its own where it is enlarged."""
    if task == "upscaling":
        return {"width": STAGE_SCALE * width, "height": STAGE_SCALE * height}
    drawn = sizes.like(model, width, height)
    return {"width": drawn[0], "height": drawn[1]}
