"""Several processes that train one network: each by itself, their weights averaged now and then.

This is local SGD (https://arxiv.org/abs/1805.09767), with rounds that last a fixed time instead of
a fixed number of steps: a process whose core is busy does fewer steps and counts for less, and
nobody waits. A process is told who it is as torchrun tells it: RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT; without them it trains alone.
"""

from __future__ import annotations

import os
import time

import torch
from torch import distributed, nn

ROUND_S = 10.0
"""Seconds between two averages: long enough that exchanging 40 MB does not count."""


class Workers:
    """This process and the others that train the same network."""

    def __init__(self, round_s: float = ROUND_S) -> None:
        self.rank, self.count = int(os.environ.get("RANK", 0)), self.expected()
        self._round_s, self._steps = round_s, 0
        if self.count > 1 and not distributed.is_initialized():
            distributed.init_process_group("gloo")
        self._next = time.monotonic() + round_s

    @staticmethod
    def expected() -> int:
        """Return how many there are to be."""
        return int(os.environ.get("WORLD_SIZE", 1))

    @property
    def leads(self) -> bool:
        """Say whether this is the one that writes checkpoints."""
        return self.rank == 0

    def after_step(self, module: nn.Module, done: bool) -> bool:
        """Count a step, and average when the round is over.

        Returns:
            Whether to stop: alone, when this process is `done`; among several, all after the
            same average, as soon as one of them is.
        """
        self._steps += 1
        if self.count == 1:
            return done
        return time.monotonic() >= self._next and self._average(module, done)

    @torch.no_grad()
    def _average(self, module: nn.Module, done: bool) -> bool:
        """Replace the weights by the mean over all workers, each by the steps of its round."""
        parameters = list(module.parameters())
        own = (
            torch.cat([*(one.reshape(-1).cpu() for one in parameters), torch.ones(1)]) * self._steps
        )
        summed = torch.cat([own, torch.tensor([float(done)])])
        distributed.all_reduce(summed)
        means = (summed[:-2] / summed[-2]).split([one.numel() for one in parameters])
        for parameter, mean in zip(parameters, means, strict=True):
            parameter.copy_(mean.view(parameter.shape))
        # All leave an average at the same moment, so their rounds end together.
        self._steps, self._next = 0, time.monotonic() + self._round_s
        return bool(summed[-1])
