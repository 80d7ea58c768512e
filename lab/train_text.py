"""Distil the text encoder: it learns to say of a text, and of its words, what its teacher says."""

from __future__ import annotations

import logging
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lab.store import load_training, save_training
from lab.text_teacher import WIDTH, Lessons
from lab.tokens import word_ends

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

BATCH = 96
PEAK_LEARNING_RATE = 1.5e-3
WARM_UP_STEPS = 200
AVERAGE = 0.998
CHECKPOINT_S = 120.0

_log = logging.getLogger(__name__)


class Pupil(nn.Module):
    """A text encoder with three heads that speak the teacher's language."""

    def __init__(self, encoder: CLIPTextModel) -> None:
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        self.sentence = nn.Linear(width, WIDTH)
        self.context = nn.Linear(width, WIDTH)
        self.alone = nn.Linear(width, WIDTH)


@dataclass(slots=True)
class TextRun:
    """Everything that a checkpoint holds."""

    pupil: Pupil
    average: Pupil
    optimizer: torch.optim.AdamW
    step: int = 0
    spent_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Lesson:
    """A batch: ids (B, T), and which tokens end which words."""

    ids: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    sentences: torch.Tensor
    contexts: torch.Tensor
    alone: torch.Tensor


class Class:
    """All lessons on one device, centred: what all texts have in common teaches nothing."""

    def __init__(
        self, tokenizer: CLIPTokenizer, ids: np.ndarray, lessons: Lessons, device: torch.device
    ) -> None:
        self.ids = torch.from_numpy(ids.astype(np.int64))
        # The encoder only looks back, so what pads a text may be cut off.
        self._lengths = (ids != tokenizer.eos_token_id).sum(1) + 1
        self._lessons, self._device = lessons, device
        self._ends = word_ends(tokenizer, ids)
        self._means = tuple(
            torch.from_numpy(block.astype(np.float32).mean(0))
            for block in (lessons.sentences, lessons.contexts, lessons.vocabulary)
        )

    def draw(self, step: int) -> Lesson:
        """Return the batch of a step: the same however often the run was interrupted."""
        chosen = np.random.default_rng((3, step)).integers(0, len(self.ids), BATCH)
        return self.look_at(chosen)

    def look_at(self, chosen: np.ndarray) -> Lesson:
        """Return a batch of chosen texts."""
        starts = self._lessons.starts
        rows, columns, words = [], [], []
        for row, index in enumerate(chosen):
            columns.append(self._ends[index][: starts[index + 1] - starts[index]])
            rows.append(np.full(len(columns[-1]), row))
            words.append(starts[index] + np.arange(len(columns[-1])))
        found = np.concatenate(words)
        targets = (
            self._lessons.sentences[chosen],
            self._lessons.contexts[found],
            self._lessons.vocabulary[self._lessons.alone[found]],
        )
        centred = [
            (torch.from_numpy(target.astype(np.float32)) - mean).to(self._device)
            for target, mean in zip(targets, self._means, strict=True)
        ]
        places = [
            torch.from_numpy(np.concatenate(part)).to(self._device) for part in (rows, columns)
        ]
        ids = self.ids[torch.from_numpy(chosen), : int(self._lengths[chosen].max())]
        return Lesson(ids.to(self._device), *places, *centred)


def start_run(encoder: CLIPTextModel, device: torch.device) -> TextRun:
    """Return a run at step 0."""
    if device.type == "cpu":
        # The backward pass of fused attention takes longer here than all the rest of a step.
        encoder.set_attn_implementation("eager")
    pupil = Pupil(encoder).to(device).train()
    optimizer = torch.optim.AdamW(
        pupil.parameters(), PEAK_LEARNING_RATE, (0.9, 0.98), weight_decay=0.01, fused=True
    )
    return TextRun(pupil, deepcopy(pupil).requires_grad_(False), optimizer)


def train_text(run: TextRun, lessons: Class, path: Path, until_s: float) -> None:
    """Train until the run has spent `until_s`."""
    began, saved, told = time.monotonic() - run.spent_s, time.monotonic(), []
    while run.spent_s < until_s:
        told.append(train_step(run, lessons.draw(run.step), run.spent_s / until_s))
        run.spent_s = time.monotonic() - began
        if run.step % 100 == 0:
            mean = np.mean(told, 0)
            _log.info(
                "step %d, %.0f s, sentence %.3f context %.3f alone %.3f",
                run.step,
                run.spent_s,
                *mean,
            )
            told.clear()
        if time.monotonic() - saved > CHECKPOINT_S:
            save_run(run, path)
            saved = time.monotonic()
    save_run(run, path)


def train_step(run: TextRun, lesson: Lesson, progress: float) -> list[float]:
    """Do one step and return its three losses; `progress`, 0 to 1, sets the learning rate."""
    for group in run.optimizer.param_groups:
        warm = min(1.0, (run.step + 1) / WARM_UP_STEPS)
        group["lr"] = PEAK_LEARNING_RATE * warm * max(0.01, 1 - progress)
    losses = text_losses(run.pupil, lesson)
    sum(losses).backward()
    nn.utils.clip_grad_norm_(run.pupil.parameters(), 1.0)
    run.optimizer.step()
    run.optimizer.zero_grad()
    run.step += 1
    decay = min(AVERAGE, (1 + run.step) / (10 + run.step))
    with torch.no_grad():
        torch._foreach_lerp_(
            list(run.average.parameters()), list(run.pupil.parameters()), 1 - decay
        )
    return [loss.item() for loss in losses]


def text_losses(pupil: Pupil, lesson: Lesson) -> list[torch.Tensor]:
    """Return 1 - cosine to the teacher for texts, words in their text, and words by themselves."""
    with torch.autocast(lesson.ids.device.type, torch.bfloat16):
        read = pupil.encoder(lesson.ids)
        words = read.last_hidden_state[lesson.rows, lesson.columns]
        said = (pupil.sentence(read.pooler_output), pupil.context(words), pupil.alone(words))
    wanted = (lesson.sentences, lesson.contexts, lesson.alone)
    return [
        1 - functional.cosine_similarity(one.float(), other).mean()
        for one, other in zip(said, wanted, strict=True)
    ]


def save_run(run: TextRun, path: Path) -> None:
    """Write the run to one file."""
    save_training(path, run, run.pupil, run.average)


def load_run(run: TextRun, path: Path) -> TextRun:
    """Bring a fresh run to where `save_run` left it."""
    load_training(path, run, run.pupil, run.average)
    return run
