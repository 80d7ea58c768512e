"""Models of several stages: DeepFloyd IF, whose text encoder is freed, Karlo and VQ-Diffusion."""

from __future__ import annotations

import atexit
import functools
import gc
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import IFPipeline
from diffusers.pipelines.deepfloyd_if import timesteps as presets
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_families.cascades import (
    IF_SIDES,
    save_tiny_if,
    save_tiny_karlo,
    save_tiny_karlo_variations,
    save_tiny_vq_diffusion,
)
from tiny_families.unets_from_pictures import save_x4_upscaler
from tiny_house import RecordingWatcher
from transformers import T5EncoderModel

from pipelines.drawing import draw
from pipelines.encoder import PromptEncoder
from pipelines.engine import Engine
from pipelines.families import deepfloyd, karlo
from pipelines.loader import LoadedModel, Loader
from pipelines.manager import PipelineManager
from pipelines.safety import Flaw
from pipelines.watermarks import mark_box
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.errors import Cancelled, ModelUnavailable
from studio.ingredients import Start
from studio.jobs import Job, JobState
from studio.model_files import wanted_files
from studio.request import GenerationRequest
from studio.settings import Settings
from studio.studio import Studio

SAVED_BY: Mapping[str, Callable[[Path], Path]] = {
    "if-1": functools.partial(save_tiny_if, stage=1),
    "if-2": functools.partial(save_tiny_if, stage=2),
    "sd-x4-upscaler": save_x4_upscaler,
    "karlo": save_tiny_karlo,
    "karlo-variations": save_tiny_karlo_variations,
    "vq-diffusion": save_tiny_vq_diffusion,
}
SIDES = {
    "if-1": IF_SIDES[1],
    "if-2": IF_SIDES[2],
    "karlo": 32,
    "karlo-variations": 32,
    "vq-diffusion": 16,
}
"""px that are drawn; Karlo and VQ-Diffusion draw theirs whatever a request says."""
STEPS = 3
TOTALS = {
    "if-1": STEPS,
    "if-2": STEPS,
    "karlo": 2 * STEPS + karlo.ENLARGING_STEPS,
    "karlo-variations": STEPS + karlo.ENLARGING_STEPS,
    "vq-diffusion": STEPS,
}
"""How many steps a picture takes when three are asked for."""
TASKS = {"if-2": "upscaling", "sd-x4-upscaler": "upscaling", "karlo-variations": "image_to_image"}
"""Of the models that start from a picture."""
PICTURE = "input-" + "1" * 64
OWNER = "visitor"

torch.set_num_threads(1)
every_cascade = pytest.mark.parametrize("key", SIDES)


@functools.cache
def folder_of(key: str) -> Path:
    """The folder of a tiny checkpoint, saved once per test run."""
    folder = Path(tempfile.mkdtemp(prefix="croquis-cascade-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return SAVED_BY[key](folder / key)


def make_settings(folders: Mapping[str, Path] | None = None, **changes: object) -> Settings:
    """Settings that name the folders of all tiny checkpoints, or others in their place."""
    places = {key: folder_of(key) for key in SAVED_BY} | dict(folders or {})
    return Settings(device="cpu", offline=True, cpu_threads=1, model_paths=places, **changes)


def make_catalogue(settings: Settings) -> Catalogue:
    """The rows of assets/models.toml; stage two is half as large."""
    full = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings)
    rows = {key: full.get_model(key) for key in SAVED_BY}
    side = IF_SIDES[2]
    rows["if-2"] = replace(rows["if-2"], min_side=side, max_side=side, multiple_of=side)
    return Catalogue(rows, full.schedulers, settings)


def make_manager(
    folders: Mapping[str, Path] | None = None, budget_bytes: int = 10**9
) -> PipelineManager:
    settings = make_settings(folders)
    return PipelineManager(make_catalogue(settings), Loader(settings), budget_bytes)


def make_request(key: str, **changes: object) -> GenerationRequest:
    """Three steps of a model, from a picture if it enlarges."""
    start = Start(task=TASKS[key], picture=PICTURE) if key in TASKS else None
    values: dict[str, object] = {
        "prompt": "a red fox",
        "model": key,
        "scheduler": "ddpm" if key.startswith("if") else "own",
        "num_inference_steps": STEPS,
        "guidance_scale": 5.0,
        "width": max(64, SIDES.get(key, 0)),
        "height": max(64, SIDES.get(key, 0)),
        "seed": 7,
        "start": start,
    }
    return GenerationRequest(**(values | changes))  # type: ignore[arg-type]


def small_picture() -> Image.Image:
    """Colours that run into each other, 64 px."""
    across, down = np.meshgrid(np.linspace(0, 255, 64), np.linspace(0, 255, 64))
    return Image.fromarray(np.stack([across, down, 255 - across], axis=-1).astype(np.uint8))


def draw_all(
    manager: PipelineManager,
    request: GenerationRequest,
    watcher: RecordingWatcher | None = None,
    prompts: PromptEncoder | None = None,
    picture: Image.Image | None = None,
) -> list[Image.Image | Flaw]:
    """Draw a request as the engine does: the text encoder first, where there is one."""
    catalogue = make_catalogue(make_settings())
    reader = catalogue.get_model(request.model).text_encoder
    prompts = prompts or encoder_for(manager)
    said = prompts.encode(reader, request, lambda text: None) if reader else None
    scheduler = catalogue.get_scheduler(request.scheduler)
    watcher = watcher or RecordingWatcher()
    indices, images = range(request.num_images), {PICTURE: picture or small_picture()}
    with manager.borrow(request.model) as loaded:
        drawn = draw(loaded, scheduler, request, indices, watcher, images, None, said)
        return [one.image for one in drawn]


@functools.cache
def encoder_for(manager: PipelineManager) -> PromptEncoder:
    """One that remembers over several requests, as the engine's does."""
    return PromptEncoder(manager)


def pixels_of(manager: PipelineManager, request: GenerationRequest) -> list[np.ndarray]:
    return [np.asarray(image) for image in draw_all(manager, request)]


def copy_of(key: str, place: Path) -> Path:
    return Path(shutil.copytree(folder_of(key), place / key))


@pytest.fixture(scope="module")
def manager() -> PipelineManager:
    return make_manager()


# All of them


@every_cascade
def test_progress_is_in_order_complete_and_shown(manager: PipelineManager, key: str) -> None:
    watcher = RecordingWatcher()
    [image] = draw_all(manager, make_request(key), watcher)
    assert isinstance(image, Image.Image)
    assert image.size == (SIDES[key], SIDES[key])
    total = TOTALS[key]
    assert watcher.steps == [(step, total, 0) for step in range(total + 1)]
    assert watcher.previews
    assert all(preview.startswith(b"\xff\xd8") for preview in watcher.previews)


@every_cascade
def test_the_seed_decides_alone_and_among_others(manager: PipelineManager, key: str) -> None:
    first, second = pixels_of(manager, make_request(key, num_images=2))
    [alone] = pixels_of(manager, make_request(key, seed=8))
    np.testing.assert_array_equal(second, alone)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("key", SAVED_BY)
def test_a_batch_has_the_pictures_that_are_drawn_alone(
    manager: PipelineManager, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"scheduler": "ddim", "width": 256, "height": 256}
    request = make_request(key, num_images=2, **(changes if key == "sd-x4-upscaler" else {}))
    alone = pixels_of(manager, request)
    monkeypatch.setattr("pipelines.drawing.picks_batches", lambda device: True)
    together = pixels_of(manager, request)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.astype(int), other.astype(int), atol=2)


@pytest.mark.parametrize("key", [key for key in SIDES if key != "karlo-variations"])
def test_the_words_decide_too(manager: PipelineManager, key: str) -> None:
    [fox] = pixels_of(manager, make_request(key))
    [chair] = pixels_of(manager, make_request(key, prompt="an iron chair"))
    assert not np.array_equal(fox, chair)


@every_cascade
def test_stop_is_heard_at_every_step(manager: PipelineManager, key: str) -> None:
    for step in range(TOTALS[key]):
        watcher = RecordingWatcher(cancel_at=step)
        with pytest.raises(Cancelled):
            draw_all(manager, make_request(key), watcher)
        assert watcher.steps[-1][0] == step
    assert len(draw_all(manager, make_request(key))) == 1


# DeepFloyd IF


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


def encoders_in_memory() -> int:
    return sum(type(one) is T5EncoderModel for one in gc.get_objects())


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


# Karlo


@pytest.mark.parametrize(("asked", "prior"), [(8.0, 4.0), (1.0, 1.0)])
def test_karlo_draws_the_pixels_of_the_plain_pipeline(
    manager: PipelineManager, asked: float, prior: float
) -> None:
    with manager.borrow("karlo") as loaded:
        plain = loaded.pipeline
        plain.set_progress_bar_config(disable=True)
        expected = plain(
            "a red fox",
            prior_num_inference_steps=STEPS,
            decoder_num_inference_steps=STEPS,
            prior_guidance_scale=prior,
            decoder_guidance_scale=asked,
            generator=torch.Generator("cpu").manual_seed(7),
        ).images[0]
    [drawn] = pixels_of(manager, make_request("karlo", guidance_scale=asked))
    np.testing.assert_array_equal(drawn, np.asarray(expected))


def test_karlo_draws_a_picture_anew_from_itself_alone(manager: PipelineManager) -> None:
    key = "karlo-variations"
    [varied] = pixels_of(manager, make_request(key))
    [other_words] = pixels_of(manager, make_request(key, prompt="an iron chair"))
    np.testing.assert_array_equal(varied, other_words)
    turned = small_picture().transpose(Image.Transpose.ROTATE_180)
    [other_picture] = draw_all(manager, make_request(key), picture=turned)
    assert not np.array_equal(varied, np.asarray(other_picture))


def test_vq_diffusion_draws_the_pixels_of_the_plain_pipeline(manager: PipelineManager) -> None:
    with manager.borrow("vq-diffusion") as loaded:
        plain = loaded.pipeline
        plain.set_progress_bar_config(disable=True)
        expected = plain(
            "a red fox",
            num_inference_steps=STEPS,
            guidance_scale=5.0,
            generator=torch.Generator("cpu").manual_seed(7),
        ).images[0]
    [drawn] = pixels_of(manager, make_request("vq-diffusion"))
    np.testing.assert_array_equal(drawn, np.asarray(expected))


# Loading by component


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("karlo", "prior/diffusion_pytorch_model.safetensors"),
        ("karlo", "decoder/config.json"),
        ("karlo", "super_res_scheduler/scheduler_config.json"),
        ("karlo", "tokenizer/tokenizer.json"),
        ("karlo", "text_encoder/model.safetensors"),
        ("vq-diffusion", "learned_classifier_free_sampling_embeddings/config.json"),
        ("if-1", "watermarker/diffusion_pytorch_model.safetensors"),
        ("if-2", "feature_extractor/preprocessor_config.json"),
    ],
)
def test_a_file_that_lacks_is_named(tmp_path: Path, key: str, name: str) -> None:
    folder = copy_of(key, tmp_path)
    (folder / name).unlink()
    with pytest.raises(ModelUnavailable, match=f"“{name}”.*is missing"):
        load(key, folder)


@pytest.mark.parametrize(
    "name", ["text_encoder/model.safetensors", "tokenizer/tokenizer.json", "unet/config.json"]
)
def test_after_a_file_that_lacked_the_next_request_draws(tmp_path: Path, name: str) -> None:
    folder = copy_of("if-1", tmp_path)
    manager = make_manager({"if-1": folder})
    (folder / name).rename(tmp_path / "away")
    with pytest.raises(ModelUnavailable, match=f"“{name}”.*is missing"):
        draw_all(manager, make_request("if-1"))
    assert manager.nbytes == 0
    assert encoders_in_memory() == 0
    (tmp_path / "away").rename(folder / name)
    assert len(draw_all(manager, make_request("if-1"))) == 1


def test_a_shard_that_lacks_is_named(tmp_path: Path) -> None:
    folder = copy_of("karlo", tmp_path)
    part = folder / "prior"
    shards = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    (part / "diffusion_pytorch_model.safetensors").rename(part / shards[0])
    index = {"metadata": {}, "weight_map": {"a": shards[0], "b": shards[1]}}
    (part / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelUnavailable, match=f"“prior/{shards[1]}”.*is missing"):
        load("karlo", folder)


@pytest.mark.parametrize("key", ["karlo", "vq-diffusion", "if-1"])
def test_pickles_are_refused(tmp_path: Path, key: str) -> None:
    folder = copy_of(key, tmp_path)
    part = folder / "text_encoder"
    (part / "model.safetensors").rename(part / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match="text_encoder” holds only pickle"):
        load(key, folder)


def test_a_class_that_is_not_listed_is_never_imported(tmp_path: Path) -> None:
    folder = copy_of("karlo", tmp_path)
    change_index(folder, "prior", ["antigravity", "Popen"])
    with pytest.raises(ModelUnavailable, match="“prior” is of the class 'Popen', which Croquis"):
        load("karlo", folder)


@pytest.mark.parametrize("place", [None, "prior", ["diffusers"], {}, [None, 5]])
def test_a_component_that_the_index_does_not_name_is_told(tmp_path: Path, place: object) -> None:
    folder = copy_of("karlo", tmp_path)
    change_index(folder, "prior", place)
    with pytest.raises(ModelUnavailable, match="prior"):
        load("karlo", folder)


def change_index(folder: Path, name: str, place: object) -> None:
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), name: place}))


def load(key: str, folder: Path) -> LoadedModel:
    with make_manager({key: folder}).borrow(key) as loaded:
        return loaded


def test_components_without_the_variant_are_loaded_as_they_are(tmp_path: Path) -> None:
    folder = copy_of("if-1", tmp_path)
    plain = folder / "unet" / "diffusion_pytorch_model.safetensors"
    half = {name: weights.half() for name, weights in load_file(plain).items()}
    save_file(half, plain.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
    plain.unlink()
    index = {
        "metadata": {},
        "weight_map": {"a": "diffusion_pytorch_model-00001-of-00002.safetensors"},
    }
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps(index)
    )
    shard_text_encoder(folder / "text_encoder")
    settings = make_settings({"if-1": folder})
    loader = Loader(settings)
    found = loader.find(make_catalogue(settings).get_model("if-1"), lambda text: None)
    assert found.variant == "fp16"
    loaded = loader.load(found)
    assert found.nbytes <= loaded.nbytes < 1.02 * found.nbytes
    assert loaded.pipeline.watermarker.watermark_image.any()
    whole = T5EncoderModel.from_pretrained(folder_of("if-1") / "text_encoder", dtype=torch.float16)
    sharded = loader.load_encoder(loader.find_encoder(found.spec, lambda text: None))
    same = torch.equal(sharded.pipeline.text_encoder.shared.weight, whole.shared.weight.float())
    again = loader.find_encoder(found.spec, lambda text: None)
    assert again is loader.find_encoder(found.spec, lambda text: None)  # hashed once
    assert again.nbytes == sharded.nbytes
    assert same and sharded.nbytes == sum(weights.nbytes for weights in whole.float().parameters())


def shard_text_encoder(part: Path) -> None:
    """Save it as DeepFloyd's is: two files in half precision, and an index of these."""
    encoder = T5EncoderModel.from_pretrained(part, dtype=torch.float16)
    (part / "model.safetensors").unlink()
    values = {name: value.clone() for name, value in encoder.state_dict().items()}
    values.pop("encoder.embed_tokens.weight", None)
    names = [f"model.fp16-0000{number}-of-00002.safetensors" for number in (1, 2)]
    places = {name: names[index % 2] for index, name in enumerate(sorted(values))}
    for file in names:
        held = {name: value for name, value in values.items() if places[name] == file}
        save_file(held, part / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": places}
    (part / "model.safetensors.index.fp16.json").write_text(json.dumps(index))


def test_what_is_fetched_has_all_parts_and_no_text_encoder_of_stage_two() -> None:
    index = (folder_of("if-2") / "model_index.json").read_text()
    plain = ["safety_checker/model.safetensors", "watermarker/diffusion_pytorch_model.safetensors"]
    half = "unet/diffusion_pytorch_model.fp16.safetensors"
    encoder = "text_encoder/model.fp16-00001-of-00001.safetensors"
    names = [*plain, half, half.replace(".fp16", ""), encoder, encoder.replace(".fp16", "")]
    catalogue = make_catalogue(make_settings())
    fetched = wanted_files(names, index, catalogue.get_model("if-2"))
    assert {name for name in fetched if name.endswith(".safetensors")} == {*plain, half}
    fetched = wanted_files(names, index, catalogue.get_model("if-1"))
    assert {name for name in fetched if name.endswith(".safetensors")} == {*plain, half, encoder}


# All three stages of IF, as a visitor draws them


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
        side = house.open(picked).width * (2 if key == "if-2" else 4)
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
    corner = small.crop(mark_box(small.size)).resize((31, 31), Image.Resampling.LANCZOS)
    assert mark_box(picture.size) == (474, 474, 505, 505)
    assert picture.crop(mark_box(picture.size)).tobytes() == corner.tobytes()
