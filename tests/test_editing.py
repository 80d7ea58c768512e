"""Starting from a picture: what it is fitted to, what is drawn anew, what stays as it was."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_studio import ANNA, BERT, open_studio
from tiny_house import RecordingWatcher, tiny_catalogue, tiny_manager, tiny_request

from pipelines.drawing import draw
from pipelines.editing import mask_of, paste_back, placed
from pipelines.loader import LoadedModel, Loader
from pipelines.manager import PipelineManager
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.errors import Cancelled, InvalidRequest, NotFound
from studio.ingredients import SecondPass, Start
from studio.request import GenerationRequest
from studio.settings import Settings

PICTURE, MASK = "0f" * 16, "input-" + "1e" * 32


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    with tiny_manager().borrow("mini") as model:
        return model


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def left_half(width: int, height: int) -> Image.Image:
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (0, 0, width // 2, height))
    return mask


IMAGES = {PICTURE: noise(128, 128), MASK: left_half(128, 128)}


def drawn(
    loaded: LoadedModel, request: GenerationRequest, watcher: RecordingWatcher | None = None
) -> Image.Image:
    watcher = watcher or RecordingWatcher()
    scheduler = tiny_catalogue().get_scheduler(request.scheduler)
    results = [*draw(loaded, scheduler, request, [0], watcher, IMAGES)]
    image = results[0].image
    assert isinstance(image, Image.Image)
    return image


def starting(task: str, **changes: object) -> GenerationRequest:
    return tiny_request(start=Start(task=task, picture=PICTURE, **changes))


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize("task", ["image_to_image", "inpainting", "outpainting"])
def test_a_task_draws_at_the_request_s_size_and_again_the_same(
    loaded: LoadedModel, task: str
) -> None:
    more: dict[str, object] = {"mask": MASK} if task == "inpainting" else {}
    more |= {"margins": (16, 0, 0, 8)} if task == "outpainting" else {}
    request = starting(task, strength=0.5, **more)
    watcher = RecordingWatcher()
    image = drawn(loaded, request, watcher)
    assert image.size == (request.width, request.height)
    assert [step for step, _, _ in watcher.steps] == [0, 1, 2]  # half of four steps
    assert {total for _, total, _ in watcher.steps} == {2}
    assert watcher.previews
    assert np.array_equal(np.asarray(image), np.asarray(drawn(loaded, request)))
    other = replace(request, seed=request.seed + 1)
    assert difference(image, drawn(loaded, other)) > 0


def test_less_strength_keeps_more_of_the_picture() -> None:
    settings = Settings(device="cpu")
    catalogue = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings)
    request = replace(catalogue.default_request("builtin", "a red castle"), seed=3)
    with PipelineManager(catalogue, Loader(settings), 10**9).borrow("builtin") as model:
        original = drawn(model, request).resize((128, 128))
        start = Start(task="image_to_image", picture=PICTURE, strength=0.3)
        order = replace(request, prompt="a blue castle", upscale=1, start=start)
        scheduler = catalogue.get_scheduler(order.scheduler)
        kept = []
        for strength in (0.3, 0.6, 1.0):
            changed = replace(order, start=replace(start, strength=strength))
            images = {PICTURE: original}
            [result] = draw(model, scheduler, changed, [0], RecordingWatcher(), images)
            assert isinstance(result.image, Image.Image)
            kept.append(difference(result.image.resize((128, 128)), original))
    assert kept == sorted(kept)
    assert kept[0] < kept[2] / 2


def test_a_start_stops_within_a_step(loaded: LoadedModel) -> None:
    watcher = RecordingWatcher(cancel_at=1)
    with pytest.raises(Cancelled):
        drawn(loaded, starting("image_to_image", strength=1.0), watcher)
    assert len(watcher.steps) == 2


def test_a_second_pass_draws_over_the_first_at_its_larger_size(loaded: LoadedModel) -> None:
    request = tiny_request(second_pass=SecondPass(scale=1.5, strength=0.5))
    watcher = RecordingWatcher()
    image = drawn(loaded, request, watcher)
    assert image.size == (96, 96)
    assert [step for step, _, _ in watcher.steps] == list(range(7))  # four, then half of four
    assert {total for _, total, _ in watcher.steps} == {6}
    first = drawn(loaded, replace(request, second_pass=None))
    assert difference(image.resize((64, 64)), first) > 0


def test_what_the_mask_leaves_alone_keeps_its_pixels() -> None:
    request = starting("inpainting", mask=MASK)
    result = np.asarray(paste_back(noise(128, 128, seed=1), request, IMAGES))
    before = np.asarray(IMAGES[PICTURE])
    assert np.array_equal(result[:, 64:], before[:, 64:])
    assert np.array_equal(result[:, :32], np.asarray(noise(128, 128, seed=1))[:, :32])


def test_an_extended_picture_holds_the_old_one_unchanged() -> None:
    request = starting("outpainting", margins=(16, 8, 0, 0))
    assert (request.width, request.height) == (64, 64)
    small = {PICTURE: noise(48, 56)}
    result = np.asarray(paste_back(noise(64, 64, seed=1), request, small))
    assert np.array_equal(result[8:, 16:], np.asarray(small[PICTURE]))
    mask = np.asarray(mask_of(request, small, (128, 128)))  # margins grow with the picture
    assert (mask[:16] == 255).all()
    assert (mask[:, :32] == 255).all()
    assert (mask[16:, 32:] == 0).all()
    mirrored = np.asarray(placed(request, small, (64, 64)))
    assert np.array_equal(mirrored[8:, 15], np.asarray(small[PICTURE])[:, 0])


def test_a_drawing_from_words_is_not_touched() -> None:
    image = noise(64, 64)
    assert paste_back(image, tiny_request(), {}) is image
    assert paste_back(image, starting("image_to_image"), IMAGES) is image


def test_margins_must_leave_a_picture_inside() -> None:
    with pytest.raises(InvalidRequest, match="margins"):
        starting("outpainting", margins=(32, 0, 32, 0))


def test_a_brought_picture_is_kept_once_and_for_its_visitor_alone(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        image = noise(40, 30)
        first = studio.keep_input(image, ANNA)
        assert studio.keep_input(image, ANNA) == first
        assert np.array_equal(np.asarray(studio.image(first, ANNA)), np.asarray(image))
        with pytest.raises(NotFound):
            studio.image(first, BERT)
        request = replace(
            studio.default_request("builtin", "a cat"),
            start=Start(task="image_to_image", picture=first),
        )
        assert studio.submit(request, ANNA).request.pictures == (first,)
        with pytest.raises(NotFound):
            studio.submit(request, BERT)
    assert len([*tmp_path.glob("inputs/*/*")]) == 1


def test_transparent_and_turned_pictures_are_made_plain(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
        assert studio.image(studio.keep_input(clear, ANNA), ANNA).getpixel((0, 0)) == (255,) * 3
        exif = Image.Exif()
        exif[0x0112] = 6  # lies on its side
        noise(20, 10).save(tmp_path / "turned.jpg", exif=exif)
        turned = studio.image(studio.keep_input(tmp_path / "turned.jpg", ANNA), ANNA)
        assert turned.size == (10, 20)
        large = studio.keep_input(Image.new("L", (5000, 10)), ANNA)
        assert studio.image(large, ANNA).size[0] == 4096


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n cut short"])
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    with open_studio(tmp_path) as studio, pytest.raises(InvalidRequest, match="picture"):
        studio.keep_input(content, ANNA)


def test_what_was_brought_and_never_used_goes_after_a_day(tmp_path: Path) -> None:
    with open_studio(tmp_path) as studio:
        used, unused, fresh = (studio.keep_input(noise(8, 8, seed), ANNA) for seed in range(3))
        start = Start(task="image_to_image", picture=used)
        studio.submit(replace(studio.default_request("builtin", "a cat"), start=start), ANNA)
        for picture_id in (used, unused):
            path = studio.input_path(picture_id, ANNA)
            assert path is not None
            os.utime(path, (0, 0))
    with open_studio(tmp_path) as studio:
        kept = [studio.input_path(one, ANNA) is not None for one in (used, unused, fresh)]
        assert kept == [True, False, True]
