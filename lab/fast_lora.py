"""What the four-step denoiser learnt beyond its teacher, as a LoRA in the format of diffusers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lab.train_fast import matrices

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

RANK = 48
"""Most directions that a layer may change in; smaller layers have fewer."""


@torch.no_grad()
def extract_lora(
    teacher: UNet2DConditionModel, pupil: UNet2DConditionModel, rank: int = RANK
) -> dict[str, torch.Tensor]:
    """Return the best approximation of rank `rank` to the difference of all matrices.

    Half precision; names as `pipeline.load_lora_weights` reads them. A convolution is taken as a
    matrix of (out, in x height x width) (https://arxiv.org/abs/2106.09685).
    """
    tensors: dict[str, torch.Tensor] = {}
    learnt = matrices(pupil)
    for name, module in matrices(teacher).items():
        change = (learnt[name].weight - module.weight).float()
        down, up = _factors(change.flatten(1), rank)
        if change.ndim == 4:
            down, up = down.unflatten(1, change.shape[1:]), up[:, :, None, None]
        tensors[f"unet.{name}.lora_A.weight"] = down.half().contiguous()
        tensors[f"unet.{name}.lora_B.weight"] = up.half().contiguous()
    return tensors


def _factors(change: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (r, in) and (out, r) whose product is nearest to (out, in)."""
    left, strengths, right = torch.linalg.svd(change, full_matrices=False)
    kept = min(rank, len(strengths))
    share = strengths[:kept].sqrt()
    return share[:, None] * right[:kept], left[:, :kept] * share
