"""DeepFloyd IF: a text encoder that is freed, presets, safety, watermark, and its three stages."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import IFPipeline
from diffusers.pipelines.deepfloyd_if import timesteps as presets
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_families.cascade_house import (
    PICTURE,
    STEPS,
    copy_of,
    draw_all,
    encoder_for,
    encoders_in_memory,
    folder_of,
    make_catalogue,
    make_manager,
    make_request,
    make_settings,
    pixels_of,
    small_picture,
)
from tiny_families.cascades import IF_SIDES
from tiny_house import RecordingWatcher
from transformers import T5EncoderModel

from pipelines.drawing import draw
from pipelines.encoder import PromptEncoder
from pipelines.engine import Engine
from pipelines.families import deepfloyd
from pipelines.loader import LoadedModel, Loader
from pipelines.manager import PipelineManager
from pipelines.safety import Flaw
from pipelines.watermarks import mark_box
from studio.errors import ModelUnavailable
from studio.ingredients import Start
from studio.jobs import Job, JobState
from studio.request import GenerationRequest
from studio.studio import Studio

OWNER = "visitor"


@pytest.fixture(scope="module")
def manager() -> PipelineManager:
    return make_manager()


def plain_if(folder: Path, **parts: object) -> IFPipeline:
    """Stage one with its text encoder, put together without the app."""
    loaded = make_manager({"if-1": folder})
    with loaded.borrow("if-1") as model:
        components = {**model.pipeline.components, **parts}
    components["text_encoder"] = T5EncoderModel.from_pretrained(folder / "text_encoder")
    pipeline = IFPipeline(**components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_stage_one_draws_the_pixels_of_the_plain_pipeline(
    manager: PipelineManager, guidance_scale: float
) -> None:
    request = make_request("if-1", guidance_scale=guidance_scale, negative_prompt="blurry")
    plain = plain_if(folder_of("if-1"))(
        request.prompt,
        negative_prompt=request.negative_prompt,
        num_inference_steps=STEPS,
        guidance_scale=guidance_scale,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        clean_caption=False,
    )
    [drawn] = pixels_of(manager, request)
    np.testing.assert_array_equal(drawn, np.asarray(plain.images[0]))


def test_every_corner_that_is_watermarked_is_marked_and_no_other(manager: PipelineManager) -> None:
    [marked] = pixels_of(manager, make_request("if-2"))
    with manager.borrow("if-2") as loaded:
        bare = replace(loaded, pipeline=without_mark(loaded))
        scheduler = make_catalogue(make_settings()).get_scheduler("ddpm")
        said = encoder_for(manager).encode("if-1", make_request("if-2"), lambda text: None)
        images, watcher = {PICTURE: small_picture()}, RecordingWatcher()
        request = make_request("if-2")
        [one] = draw(bare, scheduler, request, [0], watcher, images, None, said)
    unmarked = np.asarray(one.image)
    changed = (marked != unmarked).any(axis=-1)
    left, top, right, bottom = mark_box((IF_SIDES[2], IF_SIDES[2]))
    assert (marked[top:bottom, left:right] == (255, 0, 0)).all()
    assert changed[top:bottom, left:right].any()
    changed[top:bottom, left:right] = False
    assert not changed.any()


def without_mark(loaded: LoadedModel) -> IFPipeline:
    parts = {**loaded.pipeline.components, "watermarker": None}
    return type(loaded.pipeline)(**parts)


def test_the_negative_prompt_is_heeded_with_guidance_alone(manager: PipelineManager) -> None:
    plain, unwanted = (
        pixels_of(manager, make_request("if-1", negative_prompt=text))[0] for text in ("", "blurry")
    )
    assert not np.array_equal(plain, unwanted)
    off = {"guidance_scale": 1.0}
    plain, unwanted = (
        pixels_of(manager, make_request("if-1", negative_prompt=text, **off))[0]
        for text in ("", "blurry")
    )
    np.testing.assert_array_equal(plain, unwanted)


def test_a_preset_takes_its_own_steps_and_says_so(manager: PipelineManager) -> None:
    watcher = RecordingWatcher()
    [image] = draw_all(manager, make_request("if-1", scheduler="if_fast27"), watcher)
    assert watcher.steps[-1][:2] == (27, 27)
    assert watcher.notes == ["DDPM fast27 always takes 27 steps."]
    [even] = draw_all(manager, make_request("if-1", num_inference_steps=27))
    assert not np.array_equal(image, even)


def test_every_preset_is_diffusers_and_counts_its_steps() -> None:
    schedulers = make_catalogue(make_settings()).schedulers.values()
    offered = {spec.timesteps: spec for spec in schedulers if spec.timesteps}
    known = {name.removesuffix("_timesteps") for name in vars(presets) if "_timesteps" in name}
    assert offered.keys() == known
    for name, spec in offered.items():
        assert len(deepfloyd.preset(name) or ()) == spec.fixed_steps


def test_the_text_encoder_is_gone_before_the_u_net_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    load_pipeline = deepfloyd.load_pipeline

    def counting(*args: object) -> object:
        seen.append(encoders_in_memory())
        return load_pipeline(*args)

    monkeypatch.setattr(deepfloyd, "load_pipeline", counting)
    manager = make_manager()
    draw_all(manager, make_request("if-1"))
    assert seen == [0]
    assert encoders_in_memory() == 0
    with manager.borrow("if-1") as loaded:
        assert manager.nbytes == loaded.nbytes
        assert loaded.pipeline.text_encoder is None


def test_the_u_net_makes_room_for_the_text_encoder() -> None:
    manager = make_manager(budget_bytes=1)
    prompts = PromptEncoder(manager)
    draw_all(manager, make_request("if-1"), prompts=prompts)
    with manager.borrow_encoder("if-1", lambda text: None) as encoder:
        assert manager.nbytes == encoder.nbytes
    assert manager.nbytes == 0


def test_stage_two_reads_with_the_encoder_of_stage_one(tmp_path: Path) -> None:
    one, two = copy_of("if-1", tmp_path), copy_of("if-2", tmp_path)
    shutil.rmtree(two / "text_encoder")
    manager = make_manager({"if-1": one, "if-2": two})
    prompts = PromptEncoder(manager)
    draw_all(manager, make_request("if-1"), prompts=prompts)
    shutil.rmtree(one / "text_encoder")
    assert draw_all(manager, make_request("if-2"), prompts=prompts)
    with pytest.raises(ModelUnavailable, match="text_encoder/"):
        draw_all(manager, make_request("if-2", prompt="other words"), prompts=prompts)


def test_only_so_many_prompts_are_remembered(manager: PipelineManager) -> None:
    one = 2 * 77 * 16 * 4  # two texts, 77 tokens, 16 float32 each
    prompts = PromptEncoder(manager, budget_bytes=2 * one)
    asked: list[str] = []
    for prompt in ("a", "b", "a", "c", "a", "b"):
        request = make_request("if-1", prompt=prompt)
        before = len(asked)
        prompts.encode("if-1", request, asked.append)
        assert prompts.nbytes <= 2 * one
        if len(asked) > before:
            asked[before:] = [prompt]
    assert asked == ["a", "b", "c", "b"]


def test_a_picture_that_the_safety_check_flags_is_held_back(tmp_path: Path) -> None:
    folder = copy_of("if-1", tmp_path)
    weights = folder / "safety_checker" / "model.safetensors"
    values = load_file(weights)
    for head in ("p_head", "w_head"):
        changed = {**values, f"{head}.bias": torch.ones_like(values[f"{head}.bias"])}
        save_file(changed, weights, metadata={"format": "pt"})
        manager = make_manager({"if-1": folder})
        assert draw_all(manager, make_request("if-1")) == [Flaw.HELD_BACK]


class House:
    """A studio and an engine that draws."""

    def __init__(self, data_dir: Path) -> None:
        settings = make_settings(data_dir=data_dir)
        catalogue = make_catalogue(settings)
        self.studio = Studio(settings, catalogue)
        self.studio.start()
        manager = PipelineManager(catalogue, Loader(settings), 10**9, self.studio.set_model_state)
        self.engine = Engine(self.studio, manager, settings)
        self.engine.start()

    def draw(self, request: GenerationRequest, timeout_s: float = 120) -> Job:
        job_id = self.studio.submit(request, OWNER).id
        deadline = time.monotonic() + timeout_s
        while (job := self.studio.job(job_id, OWNER)).is_active and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (job.state, job.error) == (JobState.DONE, None)
        return job

    def open(self, picture_id: str) -> Image.Image:
        return Image.open(self.studio.picture(picture_id, OWNER).path).convert("RGB")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.engine.close()
    house.studio.close()


def test_four_are_drawn_one_is_picked_and_enlarged_twice(house: House) -> None:
    job = house.draw(make_request("if-1", num_images=4))
    assert len(set(job.picture_ids)) == 4
    for key, scheduler in (("if-2", "ddpm"), ("sd-x4-upscaler", "ddim")):
        picked = job.picture_ids[-1]
        side = 2 * house.open(picked).width
        job = house.draw(
            make_request(
                key,
                scheduler=scheduler,
                width=side,
                height=side,
                start=Start(task="upscaling", picture=picked),
            )
        )
        assert house.open(job.picture_ids[0]).size == (side, side)
        assert house.studio.picture(job.picture_ids[0], OWNER).recipe.request.start is not None
    picture, small = (house.open(one) for one in (job.picture_ids[0], picked))
    corner = small.crop(mark_box(small.size)).resize((15, 15), Image.Resampling.LANCZOS)
    assert mark_box(picture.size) == (238, 238, 253, 253)
    assert picture.crop(mark_box(picture.size)).tobytes() == corner.tobytes()
