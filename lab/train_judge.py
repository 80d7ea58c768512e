"""Train the judge on the shards of the corpus, but for stamps: `python -m lab.train_judge`.

The held-out combinations, concepts and style are in no shard, and no drawn picture is: what the
judge says of a model rests on real pictures alone.
"""

from __future__ import annotations

import argparse
import logging
import time
from math import cos, pi
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from lab.corpus import read_shard
from lab.judge import COMMITTED, JUDGE, Judge, Sight, load_judge, save_judge
from lab.judge_lessons import NOWHERE, Lessons, collect_names, read_lessons, seen_numbers
from lab.judge_senses import SIDE, prepare, relation_scores

BATCH = 64
PEAK_LEARNING_RATE = 2e-3
CORPUS = "corpus"
"""Name inside the cache."""
SAVE_EVERY_S = 120.0
_log = logging.getLogger(__name__)


def disturb(pixels: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
    """Shift, blur and grain: a model's pictures are never as crisp as real ones."""
    left, top = draw.integers(0, 7, 2)
    padded = functional.pad(pixels, (3, 3, 3, 3), "replicate")
    pixels = padded[:, :, top : top + SIDE, left : left + SIDE]
    if draw.random() < 0.5:
        # Means over neighbours by slices: pooling is many times slower on a CPU.
        wide = functional.pad(pixels, (1, 1, 1, 1), "replicate")
        rows = wide[:, :, 2:] + 2 * wide[:, :, 1:-1] + wide[:, :, :-2]
        pixels = (rows[..., 2:] + 2 * rows[..., 1:-1] + rows[..., :-2]) / 16
    return pixels + torch.randn_like(pixels) * draw.uniform(0, 0.12)


def losses(judge: Judge, lessons: Lessons, chosen: np.ndarray, draw: np.random.Generator) -> dict:
    """Return the loss of every question on some pictures of a shard."""
    pixels = disturb(prepare(list(lessons.images[chosen])), draw)
    with torch.autocast("cpu", torch.bfloat16):
        sight = judge(pixels.contiguous(memory_format=torch.channels_last))
    texts = judge.read([lessons.captions[number] for number in chosen])
    cosines = sight.embedding @ texts.T * judge.sharpness.exp().clamp(max=100)
    own, things = torch.arange(len(chosen)), torch.from_numpy(lessons.things[chosen])
    return {
        "caption": (
            functional.cross_entropy(cosines, own) + functional.cross_entropy(cosines.T, own)
        )
        / 2,
        "things": _things_loss(sight.things, things),
        "cells": _things_loss(sight.cells.flatten(2).logsumexp(2), things) / 2,
        "pattern": _known_loss(sight.patterns, lessons.patterns[chosen]),
        "count": _known_loss(sight.counts, lessons.counts[chosen]),
        "relation": _relation_loss(sight, lessons, chosen),
    }


def _known_loss(scores: torch.Tensor, labels: np.ndarray) -> torch.Tensor:
    """Cross entropy where there is a label; 0 where there is none at all."""
    wanted = torch.from_numpy(labels)
    summed = functional.cross_entropy(scores, wanted, ignore_index=NOWHERE, reduction="sum")
    return summed / max(1, int((wanted >= 0).sum()))


def _things_loss(scores: torch.Tensor, things: torch.Tensor) -> torch.Tensor:
    """Let the things that a caption names share the probability."""
    wanted = torch.zeros_like(scores).scatter_add_(1, things.clamp(min=0), (things >= 0).float())
    named = wanted.sum(1)
    kept = named > 0
    shares = scores[kept].log_softmax(1)
    return -(shares * wanted[kept] / named[kept, None]).sum() / max(1, int(kept.sum()))


def _relation_loss(sight: Sight, lessons: Lessons, chosen: np.ndarray) -> torch.Tensor:
    labels = lessons.relations[chosen]
    pairs = torch.from_numpy(lessons.things[chosen][:, :2]).clamp(min=0)
    return _known_loss(relation_scores(sight.cells, pairs), labels)


def train_judge(judge: Judge, path: Path, corpus: Path, spent: float, seconds: float) -> Judge:
    """Train until `seconds` of a core are spent in all, saving now and then.

    Shards that are drawn meanwhile are taken in.
    """
    judge, draw = judge.train(), np.random.default_rng(int(spent))
    judge = judge.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(judge.parameters(), PEAK_LEARNING_RATE, weight_decay=0.02)
    lessons = read_lessons(corpus, judge.names, [])
    began, saved, step = time.process_time() - spent, spent, 0
    while spent < seconds:
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LEARNING_RATE * (0.01 + 0.495 * (1 + cos(pi * spent / seconds)))
        shard = lessons[draw.integers(len(lessons))]
        chosen = np.sort(draw.choice(len(shard.images), BATCH, replace=False, p=shard.chances))
        parts = losses(judge, shard, chosen, draw)
        optimizer.zero_grad()
        sum(parts.values()).backward()
        optimizer.step()
        step, spent = step + 1, time.process_time() - began
        if step % 100 == 0:
            told = ", ".join(f"{name} {loss.item():.3f}" for name, loss in parts.items())
            _log.info("judge step %d, %.0f s: %s", step, spent, told)
        if spent - saved > SAVE_EVERY_S:
            save_judge(path, judge, {"spent": spent})
            lessons, saved = read_lessons(corpus, judge.names, lessons), spent
    save_judge(path, judge, {"spent": spent})
    return judge.eval()


def main() -> None:
    """Train the judge, further if there is one, and save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(".lab"))
    parser.add_argument("--minutes", type=float, default=35, help="of one core, over all runs")
    parser.add_argument("--keep", action="store_true", help="also write the one to be committed")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    corpus, path = options.cache / CORPUS, options.cache / JUDGE
    if path.exists():
        judge, state = load_judge(path)
    else:
        rows = [row for number in seen_numbers(corpus) for row in read_shard(corpus, number).rows]
        judge, state = Judge(collect_names(rows)), {"spent": 0.0}
    judge = train_judge(judge, path, corpus, state["spent"], options.minutes * 60)
    if options.keep:
        save_judge(COMMITTED, judge, load_judge(path)[1], torch.float16)


if __name__ == "__main__":
    main()
