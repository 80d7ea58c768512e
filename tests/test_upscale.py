"""Upscaler: four times as large, without seams, and better than plain enlarging."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn

from pipelines import upscale
from pipelines.upscale import WEIGHTS, Upscaler

SIDE = 512


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    return Upscaler("cpu")


def illustration() -> Image.Image:
    """A flat illustration of 512 px with straight, slanted and round edges."""
    image = Image.new("RGB", (SIDE, SIDE), "#f4e9d8")
    pen = ImageDraw.Draw(image)
    pen.ellipse((60, 60, 330, 330), fill="#d9483b", outline="#202020", width=9)
    pen.polygon([(250, 470), (480, 440), (390, 180)], fill="#2f6f8f")
    pen.rectangle((40, 380, 210, 490), fill="#f2b134")
    return image


def sharpness(image: Image.Image) -> float:
    """Mean squared step between neighbours."""
    return float(np.square(np.diff(np.asarray(image, float), axis=1)).mean())


def test_edges_are_sharper_than_enlarged_plainly_and_where_they_belong(
    upscaler: Upscaler,
) -> None:
    original = illustration()
    small = original.resize((SIDE // 4, SIDE // 4), Image.Resampling.BOX)
    plain = small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    enlarged = upscaler.enlarge(small)
    assert sharpness(enlarged) > 2 * sharpness(plain)
    errors = [
        np.abs(np.asarray(image, float) - np.asarray(original, float)).mean()
        for image in (enlarged, plain)
    ]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("colour", ["#f4e9d8", "#d9483b", "#2f6f8f", "white", "black", "teal"])
def test_colours_stay_what_they_were(upscaler: Upscaler, colour: str) -> None:
    flat = Image.new("RGB", (64, 64), colour)
    difference = np.asarray(upscaler.enlarge(flat), int)[0, 0] - np.asarray(flat, int)[0, 0]
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (72, 40)])
def test_every_size_becomes_four_times_as_large(upscaler: Upscaler, size: tuple[int, int]) -> None:
    enlarged = upscaler.enlarge(Image.new("RGB", size, "teal"))
    assert enlarged.size == (4 * size[0], 4 * size[1])
    assert enlarged.mode == "RGB"


def test_tiles_leave_no_seams(upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (88, 104, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    whole = np.asarray(upscaler.enlarge(image), int)
    monkeypatch.setattr(upscale, "TILE", 32)
    tiled = np.asarray(upscaler.enlarge(image), int)
    assert np.abs(whole - tiled).max() <= 1


def test_the_same_picture_is_enlarged_to_the_same_bits(upscaler: Upscaler) -> None:
    image = illustration().resize((64, 64))
    first, second = upscaler.enlarge(image), Upscaler("cpu").enlarge(image)
    assert first.tobytes() == second.tobytes()


class PublishedNetwork(nn.Module):
    """SRVGGNetCompact as Real-ESRGAN's release describes the animation network: 64 features, 16
    inner convolutions, PReLU with a slope per channel, pixel shuffle on top of repeated pixels."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (3, *[64] * 16):
            layers += [nn.Conv2d(inputs, 64, 3, 1, 1), nn.PReLU(64)]
        self.body = nn.Sequential(*layers, nn.Conv2d(64, 3 * 4 * 4, 3, 1, 1))

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return nn.PixelShuffle(4)(self.body(picture)) + nn.Upsample(scale_factor=4)(picture)


def test_the_network_is_the_published_one() -> None:
    from safetensors.torch import load_file

    tensors = {name: tensor.float() for name, tensor in load_file(WEIGHTS).items()}
    network = PublishedNetwork()
    names = [name for name, _ in network.named_parameters()]
    ours = [
        key
        for index in range(18)
        for key in (f"conv{index}.weight", f"conv{index}.bias", f"prelu{index}")
    ]
    assert ours.pop() == "prelu17" and set(ours) == set(tensors)
    network.load_state_dict(dict(zip(names, (tensors[key] for key in ours), strict=True)))
    picture = torch.rand(1, 3, 60, 72, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(picture)[:, :, 72:-72, 72:-72]  # what no made-up pixel reaches
        torch.testing.assert_close(upscale.apply_network(tensors, picture), expected)
    plain = nn.Upsample(scale_factor=4)(picture)[:, :, 72:-72, 72:-72]
    assert (expected - plain).abs().max() > 0.01


def test_a_tile_alone_is_in_memory(upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    enlarge = upscaler._enlarge_tile

    def recorded(tile: torch.Tensor) -> np.ndarray:
        seen.append(tuple(tile.shape[2:]))
        return enlarge(tile)

    monkeypatch.setattr(upscale, "TILE", 64)
    monkeypatch.setattr(upscaler, "_enlarge_tile", recorded)
    told: list[tuple[int, int]] = []
    image = Image.new("RGB", (150, 70), "teal")
    large = upscaler.enlarge(image, on_tile=lambda done, total: told.append((done, total)))
    assert large.size == (600, 280)
    assert len(seen) == 6 and max(max(size) for size in seen) == 64 + 2 * upscale.BORDER
    assert told == [(done, 6) for done in range(7)]


def test_the_weights_are_complete_and_small() -> None:
    from safetensors.torch import load_file

    tensors = load_file(WEIGHTS)
    assert sum(tensor.numel() for tensor in tensors.values()) == 621_424
    assert WEIGHTS.stat().st_size < 1_300_000
    kernels = [tensor for tensor in tensors.values() if tensor.ndim == 4]
    assert all(kernel.dtype == torch.float16 for kernel in kernels)
