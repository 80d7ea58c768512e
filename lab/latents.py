"""The corpus as the denoiser sees it: latents and text states, computed once per shard."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from lab.corpus import count_shards, read_shard
from lab.tokens import tokenize

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTokenizer

BATCH = 50

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Latents:
    """What the denoiser trains on; the shards stay on disk until they are looked at."""

    latents: Sequence[np.ndarray]
    """One (N, C, S, S) float16 per shard; mean about 0 and deviation about 1 in each channel."""
    states: Sequence[np.ndarray]
    """One (N, 32, 256) float16 per shard: what the text encoder makes of the captions."""
    empty: np.ndarray
    """(32, 256), float16: the states of the empty caption."""

    def __len__(self) -> int:
        return sum(len(shard) for shard in self.latents)

    def look_up(self, chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the latents and the states of pictures by number, float32."""
        ends = np.cumsum([len(shard) for shard in self.latents])
        shards = np.searchsorted(ends, chosen, side="right")
        rows = chosen - np.concatenate([[0], ends])[shards]
        pairs = list(zip(shards, rows, strict=True))
        return (
            torch.from_numpy(np.stack([self.latents[shard][row] for shard, row in pairs])).float(),
            torch.from_numpy(np.stack([self.states[shard][row] for shard, row in pairs])).float(),
        )


def to_pixels(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """Turn (B, H, W, 3) uint8 into (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.inference_mode()
def encode(autoencoder: AutoencoderKL, images: np.ndarray, shrink: int = 1) -> np.ndarray:
    """Return the latents of pictures, (N, C, H / 4, W / 4) float16, made smaller first."""
    device, blocks = autoencoder.device, []
    for start in range(0, len(images), BATCH):
        pixels = to_pixels(images[start : start + BATCH], device)
        if shrink > 1:
            pixels = torch.nn.functional.avg_pool2d(pixels, shrink)
        with torch.autocast(device.type, torch.bfloat16):
            posterior = autoencoder.encode(pixels).latent_dist
        blocks.append(posterior.mean.float().cpu().numpy().astype(np.float16))
    return np.concatenate(blocks)


@torch.inference_mode()
def encode_texts(
    encoder: CLIPTextModel, tokenizer: CLIPTokenizer, captions: list[str]
) -> np.ndarray:
    """Return the text states of captions, (N, 32, 256) float16."""
    blocks = []
    for start in range(0, len(captions), BATCH):
        ids = torch.from_numpy(tokenize(tokenizer, captions[start : start + BATCH])).long()
        with torch.autocast(encoder.device.type, torch.bfloat16):
            states = encoder(ids.to(encoder.device)).last_hidden_state
        blocks.append(states.float().cpu().numpy().astype(np.float16))
    return np.concatenate(blocks)


def encode_shard(autoencoder: AutoencoderKL, corpus: Path, folder: Path, number: int) -> None:
    """Write the latents of one shard at full and at half the size, unless they are there."""
    images = read_shard(corpus, number).images
    for size, shrink in (("full", 1), ("half", 2)):
        path = folder / size / f"shard-{number:03d}.npy"
        if not path.exists():
            _write(path, encode(autoencoder, images, shrink))


def encode_captions(
    encoder: CLIPTextModel, tokenizer: CLIPTokenizer, corpus: Path, folder: Path, number: int
) -> None:
    """Write the text states of one shard, unless they are there."""
    path = folder / "states" / f"shard-{number:03d}.npy"
    if not path.exists():
        captions = [row["caption"] for row in read_shard(corpus, number).rows]
        _write(path, encode_texts(encoder, tokenizer, captions))


def _write(path: Path, block: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new.npy")
    np.save(fresh, block)
    fresh.replace(path)
    _log.info("encoded %s %s", path.parent.name, path.stem)


def load_latents(
    encoder: CLIPTextModel, tokenizer: CLIPTokenizer, folder: Path, size: str
) -> Latents:
    """Return every shard that has both latents of a size ("full" or "half") and text states."""
    numbers = [
        number
        for number in range(len(list((folder / "states").glob("shard-*.npy"))))
        if (folder / size / f"shard-{number:03d}.npy").exists()
    ]
    read = {
        part: [
            np.load(folder / part / f"shard-{number:03d}.npy", mmap_mode="r", allow_pickle=False)
            for number in numbers
        ]
        for part in (size, "states")
    }
    return Latents(read[size], read["states"], encode_texts(encoder, tokenizer, [""])[0])


def paired_shards(corpus: Path, folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (latents, pictures) of every encoded shard, both left on disk until looked at."""
    paths = sorted((folder / "full").glob("shard-*.npy"))
    numbers = range(min(len(paths), count_shards(corpus)))
    return [
        (
            np.load(paths[number], mmap_mode="r", allow_pickle=False),
            read_shard(corpus, number).images,
        )
        for number in numbers
    ]
