"""Previews: a map fitted to each VAE, and JPEGs that show the picture to come."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderDC,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    SCMScheduler,
)
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from PIL import Image
from tiny_checkpoint import save_tiny_checkpoint
from tiny_families import parts, taught, transformers
from tiny_house import RecordingWatcher, tiny_catalogue, tiny_manager, tiny_request, tiny_settings

from pipelines.drawing import draw
from pipelines.latents import factor_of, unpack
from pipelines.previews import PIXELS, PreviewMap, estimate_clean, fit_preview, preview_jpeg
from pipelines.schedulers import build_scheduler


class LinearVae(torch.nn.Module):
    """A VAE whose latents are a known linear map of the colours, pooled by 4."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self) -> None:
        super().__init__()
        self.mixing = torch.tensor([[1.0, 2, 0, 1], [0, -1, 3, 1], [1, 1, 1, -2]])
        self.config = type("Config", (), {"block_out_channels": (8, 8, 8), "scaling_factor": 0.5})()

    def encode(self, pictures: torch.Tensor) -> object:
        small = torch.nn.functional.avg_pool2d(pictures, 4)
        latents = torch.einsum("bchw,cd->bdhw", small, self.mixing) + 0.3
        distribution = type("Distribution", (), {"mode": lambda self: latents})()
        return type("Encoded", (), {"latent_dist": distribution})()


def test_the_map_is_found_exactly_where_it_is_linear() -> None:
    vae = LinearVae()
    picture = torch.rand(1, 3, 8, 8)
    latents = vae.encode(2 * picture - 1).latent_dist.mode()[0] * 0.5
    expected = torch.nn.functional.avg_pool2d(picture, 4)[0].movedim(0, -1)
    torch.testing.assert_close(fit_preview(vae).to_rgb(latents), expected, atol=1e-3, rtol=0)


AUTOENCODERS = {
    "Stable Diffusion": parts.vae,
    "Stable Diffusion 3": lambda: parts.vae(latent_channels=16, use_quant_conv=False),
    "FLUX.2": transformers.flux2_vae,
    "Sana": transformers.dc_vae,
    "Qwen-Image": transformers.qwen_vae,
}


@pytest.mark.parametrize("family", AUTOENCODERS)
def test_a_preview_resembles_what_the_autoencoder_decodes(family: str) -> None:
    """On pictures that the map was not fitted to. Without a relation it would be about 0."""
    torch.manual_seed(0)
    vae = AUTOENCODERS[family]()
    latents = 8 if isinstance(vae, AutoencoderDC) else 16
    taught.teach(vae, latents * factor_of(vae))
    preview_map = PreviewMap(fit_preview(vae).weight)
    for picture in taught.soft_pictures(3, latents * factor_of(vae), seed=1):
        with torch.inference_mode():
            held = taught.encode(vae, picture)
            decoded = taught.decode(vae, held).clamp(0, 1)
        shown = preview_map.to_rgb(held.reshape(-1, latents, latents))
        small = torch.nn.functional.adaptive_avg_pool2d(decoded, latents).movedim(0, -1)
        assert correlation(shown, small) > 0.6


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    """From -1 to 1, over all numbers of two tensors."""
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


def test_tokens_are_laid_out_by_the_shape_of_the_picture() -> None:
    """Against how diffusers itself packs the latents of FLUX.1, and those of FLUX.2."""
    from diffusers import Flux2KleinPipeline, FluxPipeline

    for height, width in ((4, 4), (4, 12), (16, 6), (2, 14)):
        latents = torch.rand(1, 5, height, width)
        packed = (
            FluxPipeline._pack_latents(latents, 1, 5, height, width),
            Flux2KleinPipeline._pack_latents(Flux2KleinPipeline._patchify_latents(latents)),
        )
        for tokens in packed:
            torch.testing.assert_close(unpack(tokens[0], width / height), latents[0])


def test_what_a_map_cannot_read_is_told_apart() -> None:
    preview_map = PreviewMap(torch.rand(5, 3))
    assert preview_map.reads(torch.rand(4, 8, 6))
    assert preview_map.reads(torch.rand(48, 16))
    assert not preview_map.reads(torch.rand(3, 8, 8))
    assert not preview_map.reads(torch.rand(48, 4))
    assert not preview_map.reads(torch.rand(4, 1, 8, 8))


def test_pixels_are_their_own_preview() -> None:
    picture = torch.rand(3, 8, 6)
    torch.testing.assert_close(PIXELS.to_rgb(2 * picture - 1), picture.movedim(0, -1))


@pytest.mark.parametrize("key", ["sd2", "mini"])
def test_the_map_fits_every_vae_factor_and_is_always_the_same(key: str) -> None:
    with tiny_manager().borrow(key) as loaded:
        again = fit_preview(loaded.pipeline.vae)
        assert loaded.preview_map.weight.shape == (5, 3)
        assert loaded.preview_map.weight.isfinite().all()
        torch.testing.assert_close(again.weight, loaded.preview_map.weight, atol=0, rtol=0)


def test_previews_are_jpegs_of_at_least_256_px() -> None:
    preview_map = PreviewMap(torch.eye(5, 3))
    for width, height in ((16, 16), (24, 16), (96, 96), (300, 200)):
        image = Image.open(io.BytesIO(preview_jpeg(torch.rand(4, height, width), preview_map)))
        assert image.format == "JPEG"
        assert 256 <= max(image.size) < 512
        assert image.width * height == image.height * width


def test_latents_that_the_map_cannot_read_give_no_preview_but_a_picture() -> None:
    watcher = RecordingWatcher()
    with tiny_manager().borrow("mini") as loaded:
        other = replace(loaded, preview_map=PIXELS)
        [drawn] = draw(other, tiny_catalogue().get_scheduler("euler"), tiny_request(), [0], watcher)
    assert isinstance(drawn.image, Image.Image)
    assert [step for step, _, _ in watcher.steps] == [0, 1, 2, 3, 4]
    assert not watcher.previews


def test_a_scheduler_with_a_way_of_its_own_gives_no_estimate() -> None:
    scheduler = EDMEulerScheduler()
    scheduler.set_timesteps(4)
    noisy, output = torch.randn(2, 1, 4, 8, 8)
    assert estimate_clean(scheduler, output, scheduler.timesteps[0], noisy) is None


def test_previews_come_at_most_five_times_a_second() -> None:
    watcher = RecordingWatcher()
    request = tiny_request(num_inference_steps=60)
    with tiny_manager().borrow("mini") as loaded:
        started = time.monotonic()
        list(draw(loaded, tiny_catalogue().get_scheduler("euler"), request, [0], watcher))
        elapsed_s = time.monotonic() - started
    assert 1 <= len(watcher.previews) <= 1 + 5 * elapsed_s


@pytest.mark.parametrize("key", ["euler", "ddim", "dpmpp_2m_karras", "heun", "lms", "unipc"])
@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon", "sample"])
def test_the_estimate_undoes_the_noise_for_every_family(key: str, prediction_type: str) -> None:
    """A model that is always right: whatever the scheduler, its estimate is the clean picture."""
    config = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": prediction_type,
    }
    spec = tiny_catalogue().get_scheduler(key)
    scheduler = build_scheduler(spec, config)
    scheduler.set_timesteps(10)
    torch.manual_seed(0)
    clean, noise = torch.randn(2, 1, 4, 8, 8)
    timestep = scheduler.timesteps[4]
    noisy = scheduler.add_noise(clean, noise, timestep[None])
    alpha = scheduler.alphas_cumprod[int(timestep)]
    right = {
        "v_prediction": alpha.sqrt() * noise - (1 - alpha).sqrt() * clean,
        "epsilon": noise,
        "sample": clean,
    }
    scheduler._step_index = 4 if hasattr(scheduler, "sigmas") else None
    found = estimate_clean(scheduler, right[prediction_type], timestep, noisy)
    assert (found - clean).abs().max() < 0.05


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        FlowMatchHeunDiscreteScheduler(shift=3.0),
        build_scheduler(
            tiny_catalogue().get_scheduler("unipc"),
            {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0},
        ),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
def test_the_estimate_follows_the_flow_back(scheduler: SchedulerMixin) -> None:
    scheduler.set_timesteps(8)
    clean, noise = torch.randn(2, 1, 12, 16)
    for sigma, timestep in zip(scheduler.sigmas[:-1], scheduler.timesteps, strict=True):
        noisy = (1 - sigma) * clean + sigma * noise
        found = estimate_clean(scheduler, noise - clean, timestep, noisy)
        torch.testing.assert_close(found, clean, atol=0.01, rtol=0)  # UniPC rounds timesteps


def test_the_estimate_undoes_trigflow() -> None:
    """Its noise has the spread of the latents times `sigma_data`, and so has what it steps."""
    scheduler = SCMScheduler(sigma_data=0.5)
    scheduler.set_timesteps(4, intermediate_timesteps=None)
    clean, noise = torch.randn(2, 1, 4, 8, 8)
    for timestep in scheduler.timesteps[:-1]:
        noisy = 0.5 * (timestep.cos() * clean + timestep.sin() * noise)
        right = 0.5 * (timestep.cos() * noise - timestep.sin() * clean)
        torch.testing.assert_close(
            estimate_clean(scheduler, right, timestep.expand(1), noisy), clean
        )


def test_a_checkpoint_with_two_vae_blocks_is_fitted_too(tmp_path: Path) -> None:
    folder = save_tiny_checkpoint(tmp_path / "two", vae_blocks=2)
    with tiny_manager(tiny_settings({"two": folder})).borrow("two") as loaded:
        assert loaded.preview_map.weight.isfinite().all()
