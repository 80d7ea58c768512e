"""Models that an inference provider draws with: for machines that cannot hold them.

`huggingface_hub.InferenceClient` talks to the provider. There are no steps to watch, so the page
sees the seconds that pass; a stopped request is left alone, and the provider may still charge it.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipelines.families import Batch, Result

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.checkpoints import Checkpoint
    from studio.hosting import Provider

POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class HostedPipeline:
    """What stands in the place of a pipeline: nothing of the model is here."""

    provider: Provider
    components: dict[str, Any] = field(default_factory=dict)
    device: torch.device = torch.device("cpu")


def load_pipeline(checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> HostedPipeline:
    """Load nothing."""
    assert checkpoint.provider is not None
    return HostedPipeline(checkpoint.provider)


def draw_batch(batch: Batch) -> list[Result]:
    """Let the provider draw one picture for each seed.

    Raises:
        ModelUnavailable: the provider refused, failed or cannot be reached, in its own words.
    """
    provider = batch.loaded.pipeline.provider
    drawn = [_draw(provider, batch, seed) for seed in batch.seeds]
    return [Result(np.asarray(image.convert("RGB"), np.float32) / 255) for image in drawn]


def _draw(provider: Provider, batch: Batch, seed: int) -> Image.Image:
    """Ask on a thread of its own: it may hear nothing for a minute, and Stop must be heard."""
    pool = ThreadPoolExecutor(1, "hosted")
    started, title = time.monotonic(), batch.loaded.spec.title.removesuffix(", hosted")
    asking = pool.submit(provider.draw, batch.loaded.spec, batch.request, seed)
    try:
        while wait([asking], POLL_S).not_done:
            batch.steps.wait(f"{title} draws at the provider, {time.monotonic() - started:.0f} s")
    finally:
        pool.shutdown(wait=False)
    return asking.result()
