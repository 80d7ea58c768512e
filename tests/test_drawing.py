"""Drawing: the same pixels as plain diffusers, whatever happens around them."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import (
    EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
)
from tiny_house import (
    RecordingWatcher,
    checkpoint,
    tiny_catalogue,
    tiny_manager,
    tiny_request,
    tiny_settings,
)

from pipelines.drawing import draw
from pipelines.manager import PipelineManager
from pipelines.safety import Flaw
from pipelines.schedulers import build_scheduler
from pipelines.shells import build_shell
from studio.errors import Cancelled, InvalidRequest, OutOfMemory
from studio.request import MAX_SEED, GenerationRequest


@pytest.fixture(scope="module")
def manager() -> PipelineManager:
    return tiny_manager()


def pixels_of(
    manager: PipelineManager,
    request: GenerationRequest,
    watcher: RecordingWatcher | None = None,
    indices: list[int] | None = None,
) -> list[np.ndarray]:
    """Draw a request; the pictures as arrays (H, W, 3) of bytes."""
    spec = tiny_catalogue().get_scheduler(request.scheduler)
    indices = indices or list(range(request.num_images))
    with manager.borrow(request.model) as loaded:
        drawn = list(draw(loaded, spec, request, indices, watcher or RecordingWatcher()))
    assert [one.index for one in drawn] == indices
    return [np.asarray(one.image) for one in drawn]


@pytest.mark.parametrize("model", ["sd2", "mini"])
@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_same_settings_give_the_pixels_of_the_plain_pipeline(
    manager: PipelineManager, model: str, guidance_scale: float
) -> None:
    request = tiny_request(
        model=model, negative_prompt="blurry", guidance_scale=guidance_scale, width=96
    )
    plain = StableDiffusionPipeline.from_pretrained(checkpoint(model), use_safetensors=True)
    plain.scheduler = EulerDiscreteScheduler.from_pretrained(
        checkpoint(model), subfolder="scheduler"
    )
    expected = plain(
        request.prompt,
        negative_prompt=request.negative_prompt,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=guidance_scale,
        width=request.width,
        height=request.height,
        generator=torch.Generator("cpu").manual_seed(request.seed),
    ).images[0]
    [drawn] = pixels_of(manager, request)
    assert drawn.shape == (64, 96, 3)
    np.testing.assert_array_equal(drawn, np.asarray(expected))


@pytest.mark.parametrize("scheduler", ["euler", "euler_a", "dpmpp_2m_sde_karras", "dpmpp_sde"])
def test_same_seed_same_picture_alone_in_a_request_and_after_other_models(
    manager: PipelineManager, scheduler: str
) -> None:
    four = pixels_of(manager, tiny_request(scheduler=scheduler, num_images=4))
    pixels_of(manager, tiny_request(model="sd2", scheduler="dpmpp_2m_karras"))
    alone = [
        pixels_of(manager, tiny_request(scheduler=scheduler, seed=7 + index))[0]
        for index in range(4)
    ]
    np.testing.assert_array_equal(four, alone)
    assert len({picture.tobytes() for picture in four}) == 4


def test_same_seed_same_picture_after_a_reload(manager: PipelineManager) -> None:
    [before] = pixels_of(manager, tiny_request())
    assert manager.evict("mini")
    [after] = pixels_of(manager, tiny_request())
    np.testing.assert_array_equal(before, after)


def test_a_resumed_request_draws_only_what_is_missing(manager: PipelineManager) -> None:
    request = tiny_request(num_images=3)
    [last] = pixels_of(manager, request, indices=[2])
    np.testing.assert_array_equal(last, pixels_of(manager, request)[2])


def test_seeds_start_again_after_the_largest(manager: PipelineManager) -> None:
    last_two = pixels_of(manager, tiny_request(seed=MAX_SEED, num_images=2))
    [first] = pixels_of(manager, tiny_request(seed=0))
    np.testing.assert_array_equal(last_two[1], first)


def test_previews_do_not_change_the_picture(
    manager: PipelineManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = RecordingWatcher(), RecordingWatcher()
    [without] = pixels_of(manager, tiny_request(scheduler="heun"), few)
    monkeypatch.setattr("pipelines.steps.PREVIEW_INTERVAL_S", 0.0)
    [with_previews] = pixels_of(manager, tiny_request(scheduler="heun"), many)
    np.testing.assert_array_equal(without, with_previews)
    assert len(few.previews) < len(many.previews) == 7


def test_nobody_who_watches_costs_no_previews(
    manager: PipelineManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.steps.PREVIEW_INTERVAL_S", 0.0)
    watcher = RecordingWatcher()
    monkeypatch.setattr(RecordingWatcher, "is_watched", lambda self: len(self.steps) == 3)
    pixels_of(manager, tiny_request(), watcher)
    assert len(watcher.previews) == 1


@pytest.mark.parametrize(("scheduler", "total"), [("euler", 4), ("heun", 7), ("pndm", 5)])
def test_steps_are_counted_as_the_scheduler_makes_them(
    manager: PipelineManager, scheduler: str, total: int
) -> None:
    watcher = RecordingWatcher()
    pixels_of(manager, tiny_request(scheduler=scheduler, num_images=2), watcher)
    expected = [(step, total, index) for index in range(2) for step in range(total + 1)]
    assert watcher.steps == expected


def test_cancel_stops_within_one_step_and_leaves_the_model_usable(
    manager: PipelineManager,
) -> None:
    [expected] = pixels_of(manager, tiny_request(num_inference_steps=20))
    watcher = RecordingWatcher(cancel_at=3)
    with pytest.raises(Cancelled):
        pixels_of(manager, tiny_request(num_inference_steps=20), watcher)
    assert [step for step, _, _ in watcher.steps] == [0, 1, 2, 3]
    [drawn] = pixels_of(manager, tiny_request(num_inference_steps=20))
    np.testing.assert_array_equal(drawn, expected)


def test_too_many_steps_for_a_scheduler_is_a_clear_error(manager: PipelineManager) -> None:
    with pytest.raises(InvalidRequest, match="LCM cannot draw in 51 steps"):
        pixels_of(manager, tiny_request(scheduler="lcm", num_inference_steps=51))


@pytest.mark.parametrize("value", [float("nan"), -1e6])
def test_a_broken_picture_costs_its_batch_nothing(batching: None, value: float) -> None:
    manager = tiny_manager()
    request = tiny_request(num_images=3)
    spec = tiny_catalogue().get_scheduler(request.scheduler)

    def break_second(module: object, inputs: object, pixels: torch.Tensor) -> None:
        pixels[1] = value

    with manager.borrow("mini") as loaded:
        expected = [one.image for one in draw(loaded, spec, request, [0, 1, 2], RecordingWatcher())]
        loaded.pipeline.vae.decoder.register_forward_hook(break_second)
        drawn = [one.image for one in draw(loaded, spec, request, [0, 1, 2], RecordingWatcher())]
    assert drawn == [expected[0], Flaw.BROKEN, expected[2]]


class SmallDevice(torch.nn.Module):
    """A UNet on a device that is too small: memory runs out for more than `most` samples."""

    def __init__(self, unet: torch.nn.Module, most: int) -> None:
        super().__init__()
        self.unet, self.most, self.batches = unet, most, []

    def forward(self, sample: torch.Tensor, *args: object, **kwargs: object) -> object:
        self.batches.append(len(sample))
        if len(sample) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.unet(sample, *args, **kwargs)

    def __getattr__(self, name: str) -> object:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("unet"), name)


@pytest.fixture
def batching(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw whole requests at once on the CPU too, as on a GPU."""
    monkeypatch.setattr("pipelines.drawing.picks_batches", lambda device: True)


def test_out_of_memory_halves_the_batch(batching: None) -> None:
    manager = tiny_manager()
    expected = pixels_of(manager, tiny_request(num_images=5))
    with manager.borrow("mini") as loaded:
        small = SmallDevice(loaded.pipeline.unet, most=4)
        loaded.pipeline.unet = small
    watcher = RecordingWatcher()
    drawn = pixels_of(manager, tiny_request(num_images=5), watcher)
    differences = np.abs(np.subtract(drawn, expected, dtype=int))
    assert differences.max() <= 1
    assert small.batches == [10] + [4] * 8 + [2] * 4
    assert watcher.batches == [5] + [2] * 10 + [1] * 5


def test_out_of_memory_while_decoding_falls_back_to_tiles() -> None:
    manager = tiny_manager()
    watcher = RecordingWatcher()
    with manager.borrow("mini") as loaded:
        vae = loaded.pipeline.vae
        decode = vae.decode

        @functools.wraps(decode)
        def small_decode(latents: torch.Tensor, **kwargs: object) -> object:
            if not vae.use_tiling:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")
            return decode(latents, **kwargs)

        vae.decode = small_decode
    pixels_of(manager, tiny_request(), watcher)
    assert any("tiles" in note for note in watcher.notes)
    assert not vae.use_tiling


def test_out_of_memory_for_one_picture_is_a_clear_error() -> None:
    manager = tiny_manager()
    with manager.borrow("mini") as loaded:
        loaded.pipeline.unet = SmallDevice(loaded.pipeline.unet, most=1)
    with pytest.raises(OutOfMemory, match="64 x 64 px does not fit"):
        pixels_of(manager, tiny_request())


def test_another_error_of_torch_is_not_taken_for_short_memory() -> None:
    manager = tiny_manager()
    with manager.borrow("mini") as loaded:
        loaded.pipeline.unet.register_forward_pre_hook(_raise_runtime_error)
    with pytest.raises(RuntimeError, match="shapes"):
        pixels_of(manager, tiny_request())


def _raise_runtime_error(*_: object) -> None:
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_a_shell_shares_the_modules_and_nothing_that_has_state(manager: PipelineManager) -> None:
    spec = tiny_catalogue().get_scheduler("euler")
    with manager.borrow("mini") as loaded:
        scheduler = build_scheduler(spec, loaded.scheduler_config)
        for pipeline_class in (None, StableDiffusionImg2ImgPipeline):
            shell = build_shell(loaded, scheduler, pipeline_class)
            assert shell.unet is loaded.pipeline.unet
            assert shell.vae is loaded.pipeline.vae
            assert shell.scheduler is scheduler
            assert shell is not loaded.pipeline
        assert isinstance(shell, StableDiffusionImg2ImgPipeline)


@pytest.mark.gpu
def test_a_batch_on_the_gpu_shows_the_pictures_drawn_alone() -> None:
    manager = tiny_manager(replace(tiny_settings(), device="cuda"))
    four = pixels_of(manager, tiny_request(num_images=4))
    alone = [pixels_of(manager, tiny_request(seed=7 + index))[0] for index in range(4)]
    assert np.abs(np.subtract(four, alone, dtype=int)).max() <= 2
