"""Previews: a map fitted to each VAE, and JPEGs that show the picture to come."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_checkpoint import save_tiny_checkpoint
from tiny_house import RecordingWatcher, tiny_catalogue, tiny_manager, tiny_request, tiny_settings

from pipelines.drawing import draw
from pipelines.previews import PreviewMap, estimate_clean, fit_preview, preview_jpeg
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


def test_a_checkpoint_with_two_vae_blocks_is_fitted_too(tmp_path: Path) -> None:
    folder = save_tiny_checkpoint(tmp_path / "two", vae_blocks=2)
    with tiny_manager(tiny_settings({"two": folder})).borrow("two") as loaded:
        assert loaded.preview_map.weight.isfinite().all()
