"""Begin training where the committed model stands: `python -m lab.warm_start`.

A fresh checkout has the weights of `assets/builtin` but no checkpoint. This writes them as one,
with empty moments, into the cache. Where a network has more latent channels by now than the
committed one, the new channels begin unread, so that pictures are at first as they were. What a
widened autoencoder says in them is random until it is trained: do that before `--stage latents`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lab.export import TARGET
from lab.networks import build_autoencoder, build_unet
from lab.tokens import load_tokenizer
from lab.train_denoiser import save_run, start_run

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

START_LOG_VARIANCE = -6.0
"""Of a new latent channel: hardly any noise, so that the decoder finds it worth reading."""


@torch.no_grad()
def widen_autoencoder(old: AutoencoderKL) -> AutoencoderKL:
    """Return an autoencoder of today's width whose first channels and pictures are those of `old`.

    What it says in the new channels is random; the decoder does not read them yet.
    """
    torch.manual_seed(0)
    wide = build_autoencoder()
    _copy_same(old, wide)
    before, after = old.config.latent_channels, wide.config.latent_channels
    means, log_variances = torch.arange(before), after + torch.arange(before)
    _widen_encoder(old, wide, torch.cat([means, log_variances]), after + before)
    _identity(wide.post_quant_conv)
    wide.post_quant_conv.weight[:before, :before] = old.post_quant_conv.weight
    wide.post_quant_conv.bias[:before] = old.post_quant_conv.bias
    wide.decoder.conv_in.weight[:, before:] = 0
    wide.decoder.conv_in.weight[:, :before] = old.decoder.conv_in.weight
    wide.decoder.conv_in.bias.copy_(old.decoder.conv_in.bias)
    return wide


def _widen_encoder(
    old: AutoencoderKL, wide: AutoencoderKL, places: torch.Tensor, new_variances: int
) -> None:
    """Put the outputs of `old` to their places; from `new_variances` on new ones are small."""
    for part in ("weight", "bias"):
        getattr(wide.encoder.conv_out, part)[places] = getattr(old.encoder.conv_out, part)
    _identity(wide.quant_conv)
    wide.quant_conv.bias[new_variances:] = START_LOG_VARIANCE
    wide.quant_conv.weight[new_variances:] *= 0.1
    wide.quant_conv.weight[places] = 0
    wide.quant_conv.weight[places[:, None], places] = old.quant_conv.weight
    wide.quant_conv.bias[places] = old.quant_conv.bias


@torch.no_grad()
def widen_unet(old: UNet2DConditionModel) -> UNet2DConditionModel:
    """Return a denoiser of today's width that treats the channels of `old` as `old` does."""
    torch.manual_seed(0)
    wide, before = build_unet(), old.config.in_channels
    _copy_same(old, wide)
    wide.conv_in.weight[:, before:] = 0
    wide.conv_in.weight[:, :before] = old.conv_in.weight
    for part in ("weight", "bias"):
        getattr(wide.conv_out, part)[:before] = getattr(old.conv_out, part)
        getattr(wide.conv_out, part)[before:] = 0
    return wide


def _copy_same(old: torch.nn.Module, wide: torch.nn.Module) -> None:
    there = dict(old.named_parameters())
    for name, parameter in wide.named_parameters():
        if parameter.shape == there[name].shape:
            parameter.copy_(there[name])


def _identity(convolution: torch.nn.Conv2d) -> None:
    convolution.weight.copy_(torch.eye(len(convolution.weight))[:, :, None, None])
    convolution.bias.zero_()


def warm_start(source: Path, cache: Path) -> None:
    """Write tokenizer, text encoder, autoencoder and denoiser of `source` into the cache.

    What the cache has already stays, so that one part can be trained anew before.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    if not (cache / "tokenizer").exists():
        load_tokenizer(source / "tokenizer").save_pretrained(cache / "tokenizer")
    if not (cache / "text-encoder").exists():
        encoder = CLIPTextModel.from_pretrained(source / "text_encoder")
        encoder.save_pretrained(cache / "text-encoder")
    if not (cache / "autoencoder").exists():
        old = AutoencoderKL.from_pretrained(source / "vae")
        widen_autoencoder(old).save_pretrained(cache / "autoencoder")
    path = cache / "denoiser.safetensors"
    if not path.exists():
        old_unet = UNet2DConditionModel.from_pretrained(source / "unet")
        run = start_run(widen_unet(old_unet), torch.device("cpu"))
        forget(run.optimizer)
        save_run(run, path)


def forget(optimizer: torch.optim.Optimizer) -> None:
    """Give every weight empty moments, as before its first step."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            zeros = torch.zeros_like(parameter)
            optimizer.state[parameter] = {
                "step": torch.tensor(0.0),
                "exp_avg": zeros,
                "exp_avg_sq": zeros.clone(),
            }


def main() -> None:
    """Write the committed weights into the cache."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=TARGET, help="a folder of the model")
    parser.add_argument("--cache", type=Path, default=Path(".lab"))
    options = parser.parse_args()
    warm_start(options.source, options.cache)


if __name__ == "__main__":
    main()
