"""The committed model goes on as it was where training begins from it."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file

from lab import networks, train_denoiser
from lab.export import export
from lab.warm_start import forget, warm_start, widen_autoencoder, widen_unet
from studio.settings import ROOT
from studio.specs import LORA_FILE

BUILTIN = ROOT / "assets" / "builtin"


def narrow_autoencoder() -> AutoencoderKL:
    torch.manual_seed(1)
    config = dict(networks.build_autoencoder().config) | {"latent_channels": 4}
    return AutoencoderKL.from_config(config)


def narrow_unet() -> UNet2DConditionModel:
    torch.manual_seed(1)
    config = dict(networks.build_unet().config) | {"in_channels": 4, "out_channels": 4}
    return UNet2DConditionModel.from_config(config)


@torch.no_grad()
def test_a_widened_autoencoder_draws_the_same_pictures() -> None:
    old, pixels = narrow_autoencoder(), torch.rand(2, 3, 64, 64) * 2 - 1
    new = widen_autoencoder(old)
    before, after = old.encode(pixels).latent_dist, new.encode(pixels).latent_dist
    assert after.mean.shape[1] == networks.LATENT_CHANNELS > before.mean.shape[1]
    torch.testing.assert_close(after.mean[:, :4], before.mean)
    torch.testing.assert_close(after.logvar[:, :4], before.logvar)
    pictures = [one.decode(part.mean).sample for one, part in ((old, before), (new, after))]
    torch.testing.assert_close(*pictures)


@torch.no_grad()
def test_a_widened_denoiser_says_the_same_of_the_old_channels() -> None:
    old, states = narrow_unet().eval(), torch.randn(2, 32, networks.TEXT_WIDTH)
    noisy = torch.randn(2, networks.LATENT_CHANNELS, 16, 16)
    said = widen_unet(old).eval()(noisy, 500, states).sample
    torch.testing.assert_close(said[:, :4], old(noisy[:, :4], 500, states).sample)
    assert not said[:, 4:].any()


def test_a_warm_start_is_a_checkpoint_that_training_takes(tmp_path: Path) -> None:
    warm_start(BUILTIN, tmp_path)
    fresh = train_denoiser.start_run(networks.build_unet(), torch.device("cpu"))
    run = train_denoiser.load_run(fresh, tmp_path / "denoiser.safetensors")
    committed = UNet2DConditionModel.from_pretrained(BUILTIN / "unet")
    assert torch.equal(
        run.average.mid_block.resnets[0].conv1.weight, committed.mid_block.resnets[0].conv1.weight
    )
    assert (run.step, run.spent_s) == (0, 0.0)
    saved = (tmp_path / "denoiser.safetensors").stat().st_mtime_ns
    warm_start(BUILTIN, tmp_path)
    assert (tmp_path / "denoiser.safetensors").stat().st_mtime_ns == saved


def test_forgotten_moments_are_nothing() -> None:
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    forget(optimizer)
    assert not optimizer.state[layer.weight]["exp_avg"].any()


def test_a_warm_start_that_is_exported_is_the_committed_model(tmp_path: Path) -> None:
    warm_start(BUILTIN, tmp_path / "cache")
    lora = tmp_path / "cache" / "fast-lora.safetensors"
    lora.write_bytes(b"weights")
    export(tmp_path / "cache", tmp_path / "out")
    for part in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model"):
        new, old = (
            load_file(folder / f"{part}.safetensors") for folder in (tmp_path / "out", BUILTIN)
        )
        assert new.keys() == old.keys()
        assert all(torch.equal(new[name], old[name]) for name in old)
    assert (tmp_path / "out" / "fast" / LORA_FILE).read_bytes() == b"weights"
