"""Sketches on the engine's side: drawn beside jobs by real tiny pipelines, dropped when stale."""

from __future__ import annotations

import functools
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_house import RecordingWatcher, tiny_catalogue, tiny_manager, tiny_request, tiny_settings
from torch import nn

from pipelines.company import Company
from pipelines.drawing import draw
from pipelines.knees import Knees
from pipelines.sketching import Sketcher, as_jpeg
from pipelines.stepping import Stepper
from pipelines.upscale import Upscaler
from studio.errors import Cancelled, CroquisError, ModelUnavailable
from studio.sketches import Sketch
from studio.studio import Studio

ANNA, BERT, CLEO = "anna", "bert", "cleo"


class Generous(Knees):
    def most_rows(self, kind: str, least: int) -> int:
        return max(64, least)


class Desk:
    """What of the engine draws sketches, one step at a time."""

    def __init__(self, data_dir: Path) -> None:
        folders = {"missing": data_dir / "missing"}
        self.settings = tiny_settings(folders, data_dir=data_dir)
        self.studio = Studio(self.settings, tiny_catalogue(self.settings))
        self.studio.start()
        self.manager = tiny_manager(self.settings)
        self.rows: list[int] = []
        self.stepper = Stepper(self._denoise, Generous())
        self.draw = functools.partial(draw, company=Company(self.stepper))
        self.closing = threading.Event()
        self.sketcher = Sketcher(
            self.studio, self.manager, self.stepper, self.draw, Upscaler("cpu"), self.closing
        )

    def _denoise(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        self.rows.append(len(args[0] if args else kwargs["sample"]))
        return module(*args, **kwargs)

    def ask(self, owner: str = ANNA, **changes: object) -> Sketch:
        return self.studio.live.ask(tiny_request(**changes), owner)

    def step(self, *, beside_jobs: bool = False) -> None:
        with torch.no_grad():
            self.sketcher.let_in(beside_jobs=beside_jobs)
            self.stepper.step()

    def step_until(self, is_enough: Callable[[], bool], **how: bool) -> None:
        for _ in range(1000):
            if is_enough():
                return
            self.step(**how)
        raise AssertionError("it never came")

    def picture(self, sketch: Sketch) -> Image.Image:
        self.step_until(lambda: sketch.is_settled)
        drawn = self.studio.sketches.wait(sketch, 0)
        assert drawn is not None
        return Image.open(io.BytesIO(drawn))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.closing.set()
    desk.stepper.close(Cancelled("closing"))
    desk.studio.close()


def test_a_sketch_is_the_picture_that_a_job_would_draw(desk: Desk) -> None:
    sketched = desk.picture(desk.ask())
    request = tiny_request()
    spec = desk.studio.catalogue.get_scheduler(request.scheduler)
    with desk.manager.borrow("mini") as loaded, torch.no_grad():
        [drawn] = draw(loaded, spec, request, [0], RecordingWatcher())
    same = Image.open(io.BytesIO(as_jpeg(drawn.image)))
    assert np.array_equal(np.array(sketched), np.array(same))
    assert desk.studio.pictures(ANNA) == []
    assert desk.studio.jobs(ANNA) == []
    assert not any((desk.settings.data_dir / "pictures").rglob("*.*"))


def test_a_sketch_is_enlarged_as_its_request_says(desk: Desk) -> None:
    assert desk.picture(desk.ask(upscale=4)).size == (256, 256)


def test_sketches_of_several_visitors_share_their_steps(desk: Desk) -> None:
    asked = [desk.ask(owner, prompt=f"a fox of {owner}") for owner in (ANNA, BERT, CLEO)]
    desk.step_until(lambda: all(sketch.is_settled for sketch in asked))
    assert max(desk.rows) == 6  # three guided pictures
    assert all(desk.studio.sketches.wait(sketch, 0) for sketch in asked)


def test_a_stale_sketch_is_dropped_between_two_steps(desk: Desk) -> None:
    older = desk.ask(num_inference_steps=200)
    desk.step_until(lambda: len(desk.rows) == 3)
    desk.studio.sketches.call_off(ANNA)
    newer = desk.ask(prompt="a red foxglove")
    desk.picture(newer)
    with pytest.raises(Cancelled):
        desk.studio.sketches.wait(older, 0)
    assert len(desk.rows) <= 3 + 1 + 4  # at most one step more of the older one


def test_beside_jobs_there_is_one_sketch_at_a_time(desk: Desk) -> None:
    asked = [desk.ask(owner) for owner in (ANNA, BERT, CLEO)]
    desk.step_until(lambda: all(one.is_settled for one in asked), beside_jobs=True)
    assert max(desk.rows) == 2
    assert asked[0].picture == asked[1].picture


def test_a_sketch_whose_model_has_no_room_waits_and_holds_up_nobody(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    big, small = desk.ask(ANNA, model="sd2"), desk.ask(BERT)
    with desk.manager.borrow("mini") as loaded:
        monkeypatch.setattr(desk.manager, "_budget_bytes", loaded.nbytes + 1)
        desk.picture(small)
        assert big.begun_at is None
    desk.picture(big)


def test_what_fails_ends_its_sketch_alone(desk: Desk) -> None:
    broken = desk.ask(ANNA, model="missing")
    desk.step_until(lambda: broken.is_settled)
    with pytest.raises(ModelUnavailable):
        desk.studio.sketches.wait(broken, 0)
    with desk.manager.borrow("mini") as loaded:
        hook = loaded.pipeline.vae.decoder.register_forward_hook(_blacken)
    black = desk.ask(ANNA)
    desk.step_until(lambda: black.is_settled)
    with pytest.raises(CroquisError, match="only black"):
        desk.studio.sketches.wait(black, 0)
    hook.remove()
    desk.picture(desk.ask(ANNA))


def _blacken(module: object, inputs: object, pixels: torch.Tensor) -> None:
    pixels.fill_(float("nan"))


def test_the_end_of_the_server_drops_what_is_drawn(desk: Desk) -> None:
    asked = desk.ask(num_inference_steps=200)
    desk.step_until(lambda: len(desk.rows) == 2)
    desk.closing.set()
    desk.step_until(lambda: asked.is_settled)
    with pytest.raises(Cancelled):
        desk.studio.sketches.wait(asked, 0)
    assert len(desk.stepper) == 0
