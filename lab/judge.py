"""The judge: a small network that says what is in a picture, trained on real corpus pictures alone.

It embeds pictures and captions in one space (for R-precision), and names things, patterns and
counts. Things it also names cell by cell, so that where two of them lie follows from what it saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from lab.judge_senses import PAIR_BUCKETS, WORD_BUCKETS, prepare, word_buckets
from lab.store import load_checkpoint, save_checkpoint

WIDTH, DEEP_WIDTH, EMBEDDING = 128, 256, 128
COUNTS = (1, 2, 3, 4)
BATCH = 100
JUDGE = "judge.safetensors"
"""Name of the judge inside the cache of a training."""
COMMITTED = Path(__file__).with_name(JUDGE)
"""The judge of the committed figures, in half precision."""


class MissingJudge(RuntimeError):
    """There is no judge yet; the text says how to train one."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a judge can name, in the order of its scores."""

    things: tuple[str, ...]
    patterns: tuple[str, ...]
    """The first is "", no pattern."""


@dataclass(slots=True)
class Sight:
    """What a judge makes of B pictures."""

    embedding: torch.Tensor
    """(B, 128), each row of length 1."""
    cells: torch.Tensor
    """(B, things, 8, 8): how much each cell looks like each thing."""
    things: torch.Tensor
    """(B, things): how much the whole picture does."""
    patterns: torch.Tensor
    """(B, patterns)."""
    counts: torch.Tensor
    """(B, 4)."""


class Judge(nn.Module):
    """(B, 3, 64, 64) in [-1, 1] -> a `Sight`; captions -> embeddings."""

    def __init__(self, names: Names) -> None:
        super().__init__()
        self.names = names
        self.trunk = nn.Sequential(
            _convolve(3, 32, 2),
            _convolve(32, 64, 2),
            Residual(64),
            _convolve(64, WIDTH, 2),
            Residual(WIDTH),
            Residual(WIDTH),
        )
        self.deep = _convolve(WIDTH, DEEP_WIDTH, 2)
        pooled = 2 * WIDTH + DEEP_WIDTH
        self.picture = _two_layers(pooled, EMBEDDING)
        self.patterns = nn.Linear(pooled, len(names.patterns))
        self.counts = _two_layers(pooled, len(COUNTS))
        self.things = nn.Linear(pooled, len(names.things))
        self.cells = nn.Conv2d(WIDTH, len(names.things), 1)
        self.words = nn.EmbeddingBag(WORD_BUCKETS + PAIR_BUCKETS, EMBEDDING, mode="mean")
        self.caption = _two_layers(EMBEDDING, EMBEDDING)
        self.sharpness = nn.Parameter(torch.tensor(2.5))
        """Logarithm of what cosines are multiplied with before the softmax of the training."""

    def forward(self, pixels: torch.Tensor) -> Sight:
        """Look at pictures."""
        grid = self.trunk(pixels)
        seen = (grid.mean((2, 3)), grid.amax((2, 3)), self.deep(grid).mean((2, 3)))
        pooled = torch.cat(seen, 1)
        return Sight(
            functional.normalize(self.picture(pooled).float(), dim=1),
            self.cells(grid).float(),
            self.things(pooled).float(),
            self.patterns(pooled).float(),
            self.counts(pooled).float(),
        )

    def read(self, captions: Sequence[str]) -> torch.Tensor:
        """Return (B, 128), each row of length 1."""
        bags = [word_buckets(caption) for caption in captions]
        starts = torch.tensor([0, *np.cumsum([len(bag) for bag in bags])[:-1]])
        words = self.words(torch.tensor([bucket for bag in bags for bucket in bag]), starts)
        return functional.normalize(self.caption(words).float(), dim=1)


class Residual(nn.Module):
    """Two convolutions, added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_convolve(width, width), _convolve(width, width))

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        """Keep the shape."""
        return grid + self.body(grid)


def _convolve(into: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(into, out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


def _two_layers(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(into, 256), nn.ReLU(), nn.Linear(256, out))


@dataclass(frozen=True, slots=True)
class JudgeRanker:
    """The judge as a ranker of captions."""

    judge: Judge
    name: str = "judge"

    @torch.inference_mode()
    def embed_pictures(self, pictures: Iterable[Image.Image]) -> np.ndarray:
        """Return (N, 128), each row of length 1."""
        rows, waiting = [], iter(pictures)
        while batch := list(islice(waiting, BATCH)):
            rows.append(self.judge(prepare(batch)).embedding.numpy())
        return np.concatenate(rows)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return (T, 128), each row of length 1."""
        return self.judge.read(texts).numpy()


def save_judge(path: Path, judge: Judge, state: dict, dtype: torch.dtype = torch.float32) -> None:
    """Write a judge with its names and whatever else is to be kept."""
    names = {"things": judge.names.things, "patterns": judge.names.patterns}
    weights = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in judge.state_dict().items()
    }
    save_checkpoint(path, weights, {"names": names, **state})


def find_judge(cache: Path) -> Path:
    """Return where the judge lies: the one of one's own training, or else the committed one."""
    own = cache / JUDGE
    return own if own.exists() or not COMMITTED.exists() else COMMITTED


def load_judge(path: Path) -> tuple[Judge, dict]:
    """Load a judge and what was kept with it.

    Raises:
        MissingJudge: if there is none.
        CorruptCheckpoint: if it is cut short.
    """
    if not path.exists():
        raise MissingJudge(f"`{path}` is missing; `python -m lab.train_judge` trains it.")
    weights, state = load_checkpoint(path)
    names = state.pop("names")
    judge = Judge(Names(tuple(names["things"]), tuple(names["patterns"])))
    judge.load_state_dict(weights)
    return judge.eval(), state
