"""A perceptual loss for the autoencoder: how differently EfficientNet-Lite0 sees two pictures."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from lab.metrics.observers import read_lite0

ENLARGED = 2
"""How many times larger the network sees the pictures: it was made for 224 px."""
STAGES = (0, 1, 3)
"""Blocks after which features are compared: at 1, 1/2 and 1/4 of the picture's side."""
PERCEPTUAL_WEIGHT = 0.15
"""Its weight beside absolute and squared error: enough for edges, too little for texture."""


class PerceptualLoss(nn.Module):
    """Mean squared difference of normalised features, as LPIPS has it without its last weights.

    https://arxiv.org/abs/1801.03924. Its gradient flows to the first picture; its own weights are
    frozen.
    """

    def __init__(self) -> None:
        super().__init__()
        self._network = read_lite0().requires_grad_(False)

    def forward(self, rebuilt: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
        """Return the difference of two (B, 3, H, W) in [-1, 1], a scalar."""
        with torch.no_grad():
            wanted = self._features(pictures)
        pairs = zip(self._features(rebuilt), wanted, strict=True)
        return torch.stack([(one - other).square().sum(1).mean() for one, other in pairs]).mean()

    def _features(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        network, found = self._network, []
        large = functional.interpolate(pictures, scale_factor=ENLARGED, mode="bilinear")
        states = network._swish(network._bn0(network._conv_stem(large)))
        for number, block in enumerate(network._blocks[: STAGES[-1] + 1]):
            states = block(states)
            if number in STAGES:
                found.append(functional.normalize(states, dim=1))
        return found
