"""Enlarges drawn pictures four times with Real-ESRGAN's small network for animation.

The network is SRVGGNetCompact (Wang et al. 2021, https://github.com/xinntao/Real-ESRGAN): plain
3 x 3 convolutions at the small size, whose result is added to the picture enlarged by repeating
pixels. `lab/convert_upscaler.py` made the weights in `assets/upscaler/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from pipelines.seamless import pad

WEIGHTS = Path(__file__).parent.parent / "assets/upscaler/realesr-animevideov3-x4.safetensors"
FACTOR = 4
CONVOLUTIONS = 18
TILE = 128
"""Px: small enough that the count of tiles moves, and Stop is heard, every second or so."""
MARGIN = 3
"""Px around a tile that its colours are compared with."""
BORDER = CONVOLUTIONS + MARGIN
"""Px around a tile that it is enlarged with: each convolution uses one up.
A picture's edge is continued so far, since the network knows nothing beyond it, and shows that."""


class Upscaler:
    """Enlarges pictures on one device; loads its 1.2 MB of weights at the first picture."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._weights: dict[str, torch.Tensor] = {}

    def enlarge(
        self,
        image: Image.Image,
        tiling: str = "none",
        on_tile: Callable[[int, int], None] = lambda done, total: None,
    ) -> Image.Image:
        """Return `image` 4 times as wide and as high.

        Each tile sees all of the context that the network uses, so there are no seams; beside
        the finished pixels only one tile is in memory. A seamless picture stays one: its edges,
        as `studio.request.TILINGS` names them, see the opposite ones.

        Args:
            on_tile: told (tiles done, tiles in all) before each tile; may raise to stop.
        """
        pixels = np.array(image.convert("RGB"))  # (H, W, 3)
        height, width = pixels.shape[:2]
        large = np.empty((FACTOR * height, FACTOR * width, 3), np.uint8)
        picture = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        padded = pad(picture, (BORDER,) * 4, tiling, "replicate")
        places = list(product(range(0, height, TILE), range(0, width, TILE)))
        for done, (top, left) in enumerate(places):
            on_tile(done, len(places))
            tile = padded[:, :, top : top + TILE + 2 * BORDER, left : left + TILE + 2 * BORDER]
            finished = self._enlarge_tile(tile)
            rows = slice(FACTOR * top, FACTOR * top + len(finished))
            large[rows, FACTOR * left : FACTOR * left + finished.shape[1]] = finished
        on_tile(len(places), len(places))
        return Image.fromarray(large)

    @torch.inference_mode()
    def _enlarge_tile(self, tile: torch.Tensor) -> np.ndarray:
        """Enlarge (1, 3, h, w), values in [0, 1], and cut its border: bytes (4h', 4w', 3)."""
        self._load()
        tile = tile.to(self._device)
        large = _hold_colours(apply_network(self._weights, tile), _inside(tile))
        inside = slice(FACTOR * MARGIN, -FACTOR * MARGIN)
        values = (255 * large[0, :, inside, inside].clamp(0, 1)).round().byte()
        return values.permute(1, 2, 0).cpu().numpy()

    def _load(self) -> None:
        if not self._weights:
            from safetensors.torch import load_file

            tensors = load_file(WEIGHTS, device=self._device)
            self._weights = {name: _laid_out(tensor.float()) for name, tensor in tensors.items()}


def apply_network(weights: Mapping[str, torch.Tensor], picture: torch.Tensor) -> torch.Tensor:
    """Enlarge the inside of (B, 3, H, W) to (B, 3, 4 (H - 36), 4 (W - 36)), values in [0, 1].

    Each convolution leaves off the pixels whose neighbours it does not see, so none is computed
    that is not used, and none is made up. Values may lie a little beyond [0, 1] at edges.
    `weights` holds "conv<i>.weight" and "conv<i>.bias" for every convolution, and the slopes
    "prelu<i>" for all but the last.
    """
    features = picture
    for index in range(CONVOLUTIONS):
        kernel, bias = weights[f"conv{index}.weight"], weights[f"conv{index}.bias"]
        features = functional.conv2d(features, kernel, bias)
        if index < CONVOLUTIONS - 1:
            features = functional.prelu(features, weights[f"prelu{index}"])
    details = functional.pixel_shuffle(features, FACTOR)
    return details + functional.interpolate(_inside(picture), scale_factor=FACTOR, mode="nearest")


def _inside(picture: torch.Tensor) -> torch.Tensor:
    """What of (B, 3, H, W) the network enlarges: (B, 3, H - 36, W - 36)."""
    kept = slice(CONVOLUTIONS, -CONVOLUTIONS)
    return picture[:, :, kept, kept]


def _laid_out(weights: torch.Tensor) -> torch.Tensor:
    """Kernels for a CPU with their channels last: 0.5 to 0.9 of the time, one rounding apart."""
    is_kernel = weights.ndim == 4 and weights.device.type == "cpu"
    return weights.contiguous(memory_format=torch.channels_last) if is_kernel else weights


def _hold_colours(large: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    """Give areas of `large` (1, 3, 4H, 4W) their colours in `picture` (1, 3, H, W) back.

    The network brightens flat colours by up to 4 of 255. The error is averaged over 5 px, so that
    edges stay as sharp as the network drew them.
    """
    error = functional.avg_pool2d(large, FACTOR) - picture
    error = functional.avg_pool2d(error, 5, stride=1, padding=2, count_include_pad=False)
    return large - functional.interpolate(error, scale_factor=FACTOR, mode="bilinear")
