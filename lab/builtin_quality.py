"""Score the built-in model on held-out prompts, beside the real pictures of the same prompts."""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import asdict, dataclass
from itertools import islice, repeat
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lab.builtin_drawing import SHEET, load_variant, open_catalogue, save_sheet, variants
from lab.corpus import PARTS, draw_examples, open_shelf
from lab.exam import Exam, Score, look
from lab.example import Example
from lab.judge import COUNTS, Judge, find_judge, load_judge
from lab.judge_senses import RELATIONS
from lab.metrics.distances import frechet_distance
from lab.metrics.figures import Figure
from lab.metrics.intervals import jackknife
from lab.metrics.observers import Observer, Views, load_lite0
from lab.shelf import Shelf

PROMPT_SEED, REFERENCE_SEED = 77, 78
PROMPTS = 1000
ASKED = 0.15
"""Share of the prompts that name a number, and that name a relation."""
RESULTS = Path("lab/results/builtin.json")
REAL = "real pictures"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything told of one set of pictures for the prompts."""

    name: str
    scores: list[Score]
    distance: Figure
    """Frechet distance to other held-out real pictures."""


def held_out(shelf: Shelf, seed: int, count: int) -> list[Example]:
    """Draw held-out combinations of seen things, in no order.

    A share of `ASKED` names a number, another one of the four relations, so that their questions
    are asked often enough to be answered narrowly; the rest has the corpus's own shares.
    """
    rng, asked = np.random.default_rng(seed), round(ASKED * count)
    counts = (PARTS["count"](shelf, rng) for _ in repeat(None))
    relations = (PARTS["relation"](shelf, rng) for _ in repeat(None))
    rest = draw_examples(shelf, rng, held_out=True)
    chosen = [
        *islice((one for one in counts if one.held_out and one.count in COUNTS), asked),
        *islice((one for one in relations if one.held_out and one.relation in RELATIONS), asked),
        *islice((one for one in rest if one.caption), count - 2 * asked),
    ]
    return [chosen[number] for number in rng.permutation(count)]


class Jury:
    """The judge, the observer and the examples that every set of pictures is held against."""

    def __init__(self, judge: Judge, examples: list[Example], reference: list[Example]) -> None:
        self.examples = examples
        self._judge = judge
        self._exam = Exam(judge, examples)
        self._observer: Observer = load_lite0()
        self._reference = self._view([example.image for example in reference])

    def hear(self, name: str, pictures: list[np.ndarray]) -> Verdict:
        """Judge one picture for each example, in their order."""
        _log.info("judging %s", name)
        scores = self._exam.score(look(self._judge, pictures))
        pair = (self._view(pictures).features, self._reference.features)
        figure = Figure(
            name=self._observer.names["FD"],
            value=frechet_distance(*pair),
            n=len(pictures),
            interval=jackknife(frechet_distance, *pair),
            beside=f"{len(self._reference.features):,} other held-out real pictures",
        )
        return Verdict(name, scores, figure)

    def _view(self, pictures: list[np.ndarray]) -> Views:
        return self._observer.observe(Image.fromarray(picture) for picture in pictures)


def add_options(parser: argparse._ArgumentGroup) -> None:
    """Add the options of the built-in model's evaluation."""
    parser.add_argument("--model", type=Path, help="another folder than the catalogue's")
    parser.add_argument("--cache", type=Path, default=Path(".lab"))
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sheet", type=Path, default=SHEET, help="where the contact sheet goes")


def score_builtin(options: argparse.Namespace) -> None:
    """Draw held-out prompts with every variant; print and save the figures and the sheet."""
    torch.set_num_threads(options.threads)
    judge, _ = load_judge(find_judge(options.cache))
    shelf = open_shelf(options.cache)
    examples = held_out(shelf, PROMPT_SEED, options.prompts)
    jury = Jury(judge, examples, held_out(shelf, REFERENCE_SEED, options.prompts))
    prompts = [example.caption for example in examples]
    verdicts = [jury.hear(REAL, [example.image for example in examples])]
    catalogue, settings = open_catalogue(options.model)
    rows = [row for row in variants(catalogue) if not (options.model and row.fused_lora)]
    for number, row in enumerate(rows):  # a LoRA fits no other model
        variant = load_variant(catalogue, settings, row)
        _log.info("drawing %s", variant.name)
        drawn = variant.draw(prompts)
        verdicts.append(jury.hear(variant.name, drawn))
        if number == 0:
            save_sheet(variant, drawn, prompts, options.sheet)
    print(table(verdicts))
    save_results(options.json or RESULTS, verdicts, options)


def table(verdicts: list[Verdict]) -> str:
    """Return the figures as lines: one block for every set of pictures, real ones first."""
    lines = []
    for verdict in verdicts:
        lines.append(f"{verdict.name:30}{'n':>6}{'right':>9}{'95 % interval':>20}{'chance':>9}")
        for score in verdict.scores:
            low, high = score.interval
            reach = f"{low:.1%} to {high:.1%}"
            lines.append(
                f"  {score.name:28}{score.n:>6,}{score.share:>9.1%}{reach:>20}{score.chance:>9.1%}"
            )
        figure = verdict.distance
        reach = "{:.1f} to {:.1f}".format(*figure.interval) if figure.interval else "too few"
        lines.append(f"  {figure.name:28}{figure.n:>6,}{figure.value:>9.1f}{reach:>20}{'':>9}")
    return "\n".join(lines)


def save_results(path: Path, verdicts: list[Verdict], options: argparse.Namespace) -> None:
    """Write the figures with what they rest on."""
    settings = {"prompts": options.prompts, "seed": PROMPT_SEED, "reference seed": REFERENCE_SEED}
    told = {
        verdict.name: {
            "scores": [asdict(score) for score in verdict.scores],
            "distance": verdict.distance.row(),
        }
        for verdict in verdicts
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"settings": settings, "pictures": told}, indent=2) + "\n", "utf-8")
