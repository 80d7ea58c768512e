"""Teach the text encoder to say in its last tokens what lies where.

CLIP's text encoder only looks back: in "a cat left of a dog" the state of "cat" cannot know on
which side the cat is, and a probe of the distilled states found the side in 43 % (of four; the end
of the sentence a thing stands at, in 98 %). The padding after a caption sees all of it. Its last
six tokens learn to repeat what stands left, right, above, below, in front and behind: each the
state of that thing's word and of its colour. The start, the words and the first end token are held
where they were; the padding between those and the slots is all but free.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lab import captions
from lab.corpus_relations import WORDS
from lab.palette import COLOURS, SYNONYMS
from lab.tokens import MAX_TOKENS, tokenize, word_ends

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

PLACES = {
    "left of": ("left", "right"),
    "right of": ("right", "left"),
    "above": ("top", "bottom"),
    "below": ("bottom", "top"),
    "riding": ("top", "bottom"),
    "in front of": ("front", "back"),
    "inside": ("front", "back"),
    "beside": ("left", "right"),
}
"""Relation -> where its first thing lies, and where its second."""
SLOTS = ("left", "right", "top", "bottom", "front", "back")
FIRST_SLOT = MAX_TOKENS - len(SLOTS)
"""The token that repeats what lies in the first of `SLOTS`; the others follow it."""

WORDINGS = {**WORDS, "beside": ("{0} and {1}", "{0} next to {1}", "{0} beside {1}")}
COLOUR_WORDS = (*COLOURS, *(word for words in SYNONYMS.values() for word in words))
GROUNDS = ("in the sky", "on mars", "in the desert", "at night", "in the snow", "by the sea", "")

BATCH = 64
PEAK_LEARNING_RATE = 6e-4
WARM_UP_STEPS = 100
HELD_WEIGHT = 2.0
"""Weight of the states that are to stay, beside the slots' own error."""

SLOT_HELD_WEIGHT = 0.02
"""The same for the slots themselves, against the held ones: just so that they do not run away."""

_WORD = re.compile(r"[a-z]+|[0-9]")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text with the numbers of the words that the slots repeat."""

    text: str
    nouns: tuple[tuple[int, int], ...] = ()
    """(slot, number of the word in the text)."""
    colours: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """A batch: ids (B, 32), which states stay, and which words which slots repeat."""

    ids: torch.Tensor
    held: torch.Tensor
    """(B, 32) bool: the start, every word and the first end token."""
    nouns: torch.Tensor
    """(n, 3): row, slot, token."""
    colours: torch.Tensor

    def to(self, device: torch.device) -> Reading:
        """Return the same on a device."""
        return Reading(*(getattr(self, field.name).to(device) for field in fields(self)))


class Repeater(nn.Module):
    """A text encoder whose slots are read by two heads, beside what it was before."""

    def __init__(self, encoder: CLIPTextModel) -> None:
        super().__init__()
        width = encoder.config.hidden_size
        self.before = deepcopy(encoder).eval().requires_grad_(False)
        self.encoder = encoder
        self.noun, self.colour = nn.Linear(width, width), nn.Linear(width, width)

    def losses(self, reading: Reading) -> list[torch.Tensor]:
        """Return the error of the held states, and 1 - cosine of nouns and of colours."""
        with torch.autocast(reading.ids.device.type, torch.bfloat16):
            with torch.no_grad():
                before = self.before(reading.ids).last_hidden_state.float()
            states = self.encoder(reading.ids).last_hidden_state
            said = [
                self._say(head, states, asked)
                for head, asked in ((self.noun, reading.nouns), (self.colour, reading.colours))
            ]
        moved = (states.float() - before).square().mean(2)
        slots = moved[:, FIRST_SLOT:].mean()  # they may say something new, but not louder
        centre = before[reading.held].mean(0)
        found = [
            1
            - functional.cosine_similarity(one.float(), before[at[:, 0], at[:, 2]] - centre).mean()
            for one, at in zip(said, (reading.nouns, reading.colours), strict=True)
        ]
        return [moved[reading.held].mean() + SLOT_HELD_WEIGHT * slots, *found]

    @staticmethod
    def _say(head: nn.Linear, states: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        return head(states[asked[:, 0], FIRST_SLOT + asked[:, 1]])


def compose(rng: np.random.Generator, things: Sequence[str], nouns: Sequence[str]) -> Sentence:
    """Word two things in a relation: things of the corpus and, as often, any other word."""
    relation = list(WORDINGS)[rng.integers(len(WORDINGS))]
    parts = [_phrase(rng, things, nouns) for _ in range(2)]
    wordings = WORDINGS[relation]
    core = wordings[rng.integers(len(wordings))].format(*(phrase for phrase, _, _ in parts))
    text = captions.dress_up(rng, _on_ground(rng, core))
    nouns_at, colours_at, start = [], [], text.index(core)
    for (phrase, colour, _), place in zip(parts, PLACES[relation], strict=True):
        start = text.index(phrase, start)
        end, slot = start + len(phrase), SLOTS.index(place)
        nouns_at.append((slot, _count(text[:end]) - 1))  # the noun ends its phrase
        if colour:
            coloured = start + phrase.index(colour) + len(colour)
            colours_at.append((slot, _count(text[:coloured]) - 1))
        start = end
    return Sentence(text, tuple(nouns_at), tuple(colours_at))


def _on_ground(rng: np.random.Generator, core: str) -> str:
    chance = rng.random()
    if chance < 0.3:
        return core + captions.on_ground(rng, COLOUR_WORDS[rng.integers(len(COLOUR_WORDS))])
    if chance < 0.5:
        return f"{core} {GROUNDS[rng.integers(len(GROUNDS))]}".strip()
    return core


def _phrase(
    rng: np.random.Generator, things: Sequence[str], nouns: Sequence[str]
) -> tuple[str, str, str]:
    among = things if rng.random() < 0.6 else nouns
    noun = among[rng.integers(len(among))]
    colour = COLOUR_WORDS[rng.integers(len(COLOUR_WORDS))] if rng.random() < 0.4 else ""
    return captions.with_article(rng, f"{colour} {noun}".strip()), colour, noun


def _count(text: str) -> int:
    return len(_WORD.findall(text))


def read(tokenizer: CLIPTokenizer, sentences: Sequence[Sentence]) -> Reading:
    """Turn sentences into a batch; what reaches into the slots is not asked."""
    ids = tokenize(tokenizer, [sentence.text for sentence in sentences]).astype(np.int64)
    lengths = (ids != tokenizer.eos_token_id).sum(1) + 1
    ends = word_ends(tokenizer, ids)
    kept = lengths <= FIRST_SLOT

    def places(asked: str) -> torch.Tensor:
        found = [
            (row, slot, ends[row][word])
            for row, sentence in enumerate(sentences)
            for slot, word in getattr(sentence, asked)
            if kept[row] and word < len(ends[row])
        ]
        return torch.tensor(found, dtype=torch.long).reshape(-1, 3)

    held = torch.from_numpy(np.arange(MAX_TOKENS)[None] < lengths[:, None])
    return Reading(torch.from_numpy(ids), held, places("nouns"), places("colours"))


def teach_slots(
    repeater: Repeater,
    tokenizer: CLIPTokenizer,
    names: tuple[Sequence[str], Sequence[str]],
    others: Sequence[str],
    seconds: float,
) -> CLIPTextModel:
    """Train for some seconds, on relations and, a third of each batch, on other captions.

    It writes no checkpoint: where it is stopped, its minutes begin anew.

    Args:
        names: words for things of the corpus, and any other nouns.
    """
    device = repeater.noun.weight.device
    if device.type == "cpu":  # where it is faster, see train_text.start_run
        for encoder in (repeater.encoder, repeater.before):
            encoder.set_attn_implementation("eager")
    optimizer = torch.optim.AdamW(
        (weight for weight in repeater.parameters() if weight.requires_grad),
        PEAK_LEARNING_RATE,
        (0.9, 0.98),
        weight_decay=0.01,
    )
    rng, began, step, told = np.random.default_rng(11), time.monotonic(), 0, []
    while (spent := time.monotonic() - began) < seconds:
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / WARM_UP_STEPS)
            group["lr"] = PEAK_LEARNING_RATE * warm * max(0.01, 1 - spent / seconds)
        chosen = [others[number] for number in rng.integers(len(others), size=BATCH // 3)]
        batch = [compose(rng, *names) for _ in range(BATCH - len(chosen))]
        reading = read(tokenizer, [*batch, *map(Sentence, chosen)]).to(device)
        told.append(_step(repeater, optimizer, reading))
        step += 1
        if step % 50 == 0:
            mean = np.mean(told, 0)
            _log.info("slots step %d, %.0f s: held %.4f noun %.3f colour %.3f", step, spent, *mean)
            told.clear()
    return repeater.encoder.eval()


def _step(repeater: Repeater, optimizer: torch.optim.Optimizer, reading: Reading) -> list[float]:
    losses = repeater.losses(reading)
    (HELD_WEIGHT * losses[0] + losses[1] + losses[2]).backward()
    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return [loss.item() for loss in losses]
