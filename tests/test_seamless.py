"""Seamless pictures: edges that join, and a shared pipeline that is as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DiTPipeline, DiTTransformer2DModel, UNet2DConditionModel
from diffusers.models.downsampling import Downsample2D
from PIL import Image
from tiny_house import RecordingWatcher, tiny_manager, tiny_request

from lab.seams import seam_score
from pipelines.drawing import draw
from pipelines.loader import LoadedModel, Loader
from pipelines.manager import PipelineManager
from pipelines.seamless import AXES, pad, seamless
from pipelines.upscale import Upscaler
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.errors import Cancelled
from studio.request import GenerationRequest
from studio.settings import Settings

SETTINGS = Settings(device="cpu", offline=True)
PROMPTS = (
    "a red and white gingham fabric",
    "a city at night",
    "a green and yellow flower pattern",
)
CATALOGUE = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, SETTINGS)


@pytest.fixture(scope="module")
def builtin() -> Iterator[LoadedModel]:
    manager = PipelineManager(CATALOGUE, Loader(SETTINGS), 10**9)
    with manager.borrow("builtin") as loaded:
        yield loaded


@pytest.fixture
def tiny() -> Iterator[LoadedModel]:
    with tiny_manager().borrow("mini") as loaded:
        yield loaded


def pictures(
    loaded: LoadedModel, request: GenerationRequest, watcher: RecordingWatcher | None = None
) -> list[Image.Image]:
    spec = CATALOGUE.get_scheduler(request.scheduler)
    indices = range(request.num_images)
    return [
        one.image for one in draw(loaded, spec, request, indices, watcher or RecordingWatcher())
    ]


def wish(tiling: str, **changes: object) -> GenerationRequest:
    """A request to the built-in model."""
    own = CATALOGUE.default_request("builtin", PROMPTS[0])
    values = {"seed": 5, "num_inference_steps": 8, "num_images": 4, "tiling": tiling} | changes
    return GenerationRequest(**(own.to_json() | values))


def median_scores(images: list[Image.Image]) -> tuple[float, float]:
    across = np.median([seam_score(np.asarray(image), "x") for image in images])
    down = np.median([seam_score(np.asarray(image), "y") for image in images])
    return float(across), float(down)


@pytest.mark.parametrize("tiling", ["none", "x", "y", "both"])
def test_edges_join_where_asked_and_only_there(builtin: LoadedModel, tiling: str) -> None:
    drawn = [one for text in PROMPTS for one in pictures(builtin, wish(tiling, prompt=text))]
    large = [Upscaler("cpu").enlarge(image, tiling) for image in drawn]
    for images in (drawn, large):
        for wraps, score in zip(AXES[tiling], median_scores(images), strict=True):
            # The median: in some pictures a line, such as the edge of a stripe, lies on the seam.
            assert score < 1.8 if wraps else score > 2.5, (tiling, score)


def test_the_same_seed_is_the_same_picture_before_and_after_a_seamless_one(
    tiny: LoadedModel,
) -> None:
    before = pictures(tiny, tiny_request(num_images=2))
    wrapped = pictures(tiny, tiny_request(num_images=2, tiling="both"))
    after = pictures(tiny, tiny_request(num_images=2))
    assert [one.tobytes() for one in before] == [one.tobytes() for one in after]
    assert before[0].tobytes() != wrapped[0].tobytes()
    again = pictures(tiny, tiny_request(num_images=2, tiling="both"))
    assert [one.tobytes() for one in wrapped] == [one.tobytes() for one in again]


def test_a_stopped_seamless_picture_leaves_the_model_as_it_was(tiny: LoadedModel) -> None:
    before = pictures(tiny, tiny_request())
    with pytest.raises(Cancelled):
        pictures(tiny, tiny_request(tiling="x"), RecordingWatcher(cancel_at=2))
    assert pictures(tiny, tiny_request())[0].tobytes() == before[0].tobytes()
    parts = (tiny.pipeline.unet, tiny.pipeline.vae)
    layers = [layer for part in parts for layer in part.modules()]
    assert not [layer for layer in layers if {"_conv_forward", "decode"} & set(vars(layer))]


@pytest.mark.parametrize("downsample_padding", [1, 0])
def test_a_unet_that_wraps_moves_with_its_input(tiny: LoadedModel, downsample_padding: int) -> None:
    """Wherever the edge is, the result is the same: there is no edge any more."""
    config = {**tiny.pipeline.unet.config, "downsample_padding": downsample_padding}
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config(config).eval()
    paddings = {part.padding for part in unet.modules() if isinstance(part, Downsample2D)}
    assert paddings == {downsample_padding}
    tiny.pipeline.unet, own = unet, tiny.pipeline.unet
    text, noise = torch.randn(1, 5, 16), torch.randn(1, 4, 16, 24)
    moved = noise.roll((4, 10), (2, 3))
    with torch.inference_mode(), seamless(tiny.pipeline, "both", in_tiles=False):
        expected = unet(noise, 500, text).sample.roll((4, 10), (2, 3))
        torch.testing.assert_close(unet(moved, 500, text).sample, expected, atol=1e-4, rtol=1e-4)
    with torch.inference_mode():
        differs = (
            unet(noise, 500, text).sample.roll((4, 10), (2, 3)) - unet(moved, 500, text).sample
        )
        assert differs.abs().max() > 1e-2
    tiny.pipeline.unet = own


@pytest.mark.parametrize("in_tiles", [False, True])
def test_the_decoder_joins_edges_also_in_tiles(builtin: LoadedModel, in_tiles: bool) -> None:
    """One wave of latents that repeats: what is decoded from it has to repeat as well."""
    vae = builtin.pipeline.vae
    wave = torch.sin((torch.arange(48) / 48 + 1 / 8) * 2 * torch.pi).expand(
        1, vae.config.latent_channels, 48, 48
    )
    with torch.inference_mode(), seamless(builtin.pipeline, "x", in_tiles=in_tiles):
        if in_tiles:
            vae.enable_tiling()
        [joined] = vae.decode(wave, return_dict=False)
        vae.disable_tiling()
    with torch.inference_mode():
        [plain] = vae.decode(wave, return_dict=False)
    assert joined.shape == plain.shape
    scores = [seam_score(pixels[0].permute(1, 2, 0).numpy(), "x") for pixels in (joined, plain)]
    assert scores[0] < 1.5 < 3 < scores[1], scores


@pytest.mark.parametrize("tiling", ["x", "y", "both"])
def test_enlarging_moves_with_the_picture(tiling: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 72, 3), dtype=np.uint8)
    shift = tuple(20 if wraps else 0 for wraps in reversed(AXES[tiling]))
    upscaler = Upscaler("cpu")
    still = np.asarray(upscaler.enlarge(Image.fromarray(noise), tiling), int)
    rolled = Image.fromarray(np.roll(noise, shift, (0, 1)))
    moved = np.asarray(upscaler.enlarge(rolled, tiling), int)
    expected = np.roll(still, tuple(4 * by for by in shift), (0, 1))
    assert np.abs(moved - expected).max() <= 1
    plain = np.asarray(upscaler.enlarge(rolled), int)
    assert np.abs(plain - expected).max() > 10


def test_padding_wraps_one_axis_alone() -> None:
    picture = torch.arange(6.0).reshape(1, 1, 2, 3)
    expected = torch.tensor([[0.0, 0, 0, 0, 0], [2, 0, 1, 2, 0], [5, 3, 4, 5, 3], [0, 0, 0, 0, 0]])
    assert torch.equal(pad(picture, (1, 1, 1, 1), "x")[0, 0], expected)


def test_a_size_that_cannot_join_exactly_leaves_a_note(builtin: LoadedModel) -> None:
    watcher = RecordingWatcher()
    small = {"num_images": 1, "num_inference_steps": 1, "width": 72}
    pictures(builtin, wish("y", **small), watcher)
    assert watcher.notes == []
    pictures(builtin, wish("both", **small), watcher)
    assert watcher.notes == [
        "A faint seam may show: edges join exactly at sides in steps of 16 px."
    ]


def test_a_model_without_a_unet_is_not_asked_for_its_scales(tiny: LoadedModel) -> None:
    transformer = DiTTransformer2DModel(num_attention_heads=1, attention_head_dim=8, num_layers=1)
    pipeline = DiTPipeline(transformer, tiny.pipeline.vae, tiny.pipeline.scheduler)
    with pytest.raises(Cancelled):
        pictures(replace(tiny, pipeline=pipeline), tiny_request(), RecordingWatcher(cancel_at=-1))


def test_the_score_is_one_where_the_repeat_is_exact() -> None:
    wave = np.tile(np.sin(np.arange(64) / 64 * 2 * np.pi * 4)[None, :, None], (64, 1, 3)) * 100
    assert seam_score(wave, "x") == pytest.approx(1, abs=0.6)
    ramp = np.tile(np.arange(64.0)[None, :, None], (64, 1, 3))
    assert seam_score(ramp, "x") == pytest.approx(63)
    assert seam_score(ramp.transpose(1, 0, 2), "y") == pytest.approx(63)
