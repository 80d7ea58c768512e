"""Measure a folder of pictures against its captions and against a folder of real ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lab.judge import JudgeRanker, load_judge
from lab.metrics.caption_files import find_captions, match, read_captions
from lab.metrics.clip import load_clip
from lab.metrics.figures import Figure, precision_figure, view_figures
from lab.metrics.folders import Folder, open_folder
from lab.metrics.observers import load_inception, load_lite0
from lab.metrics.ranking import Embedder, Texts, ask, rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be measured, and with which networks."""

    folder: Path
    captions: Path | None = None
    """None looks for a `metadata.jsonl` or `metadata.csv` in the folder."""
    reference: Path | None = None
    inception: Path | None = None
    """File of Inception's weights; None measures with EfficientNet-Lite0."""
    clip: Path | None = None
    """Folder of a CLIP checkpoint that ranks captions."""
    judge: Path | None = None
    """File of the lab's judge, which ranks captions made of words that it was trained on."""


def measure(question: Question) -> list[Figure]:
    """Return every figure that can be told.

    Raises:
        CannotMeasure: if a picture, a caption file, a package or a folder is not as it should be.
        CorruptCheckpoint: if a network's weights are cut short.
    """
    folder = open_folder(question.folder)
    reference = open_folder(question.reference) if question.reference else None
    texts = _texts(folder, question.captions)
    rankers = load_rankers(question)
    observer = load_inception(question.inception) if question.inception else load_lite0()
    views = observer.observe(folder)
    figures = view_figures(observer, views, observer.observe(reference) if reference else None)
    if texts:
        figures += [rank_captions(ranker, folder, texts) for ranker in rankers]
    return figures


def load_rankers(question: Question) -> list[Embedder]:
    """Load whoever is to rank captions."""
    rankers: list[Embedder] = []
    if question.clip:
        rankers.append(load_clip(question.clip))
    if question.judge:
        rankers.append(JudgeRanker(load_judge(question.judge)[0]))
    return rankers


def _texts(folder: Folder, captions: Path | None) -> list[Texts] | None:
    path = captions or find_captions(folder.path)
    return match(folder.names, read_captions(path), folder.path) if path else None


def rank_captions(ranker: Embedder, folder: Folder, texts: list[Texts]) -> Figure:
    """Return R-precision of a folder whose pictures have the given captions."""
    queries = ask(texts)
    precision = rank(ranker.embed_pictures(folder), ranker.embed_texts(queries.texts), queries)
    return precision_figure(ranker.name, precision, queries)


def write_json(path: Path, question: Question, figures: list[Figure]) -> None:
    """Write the figures with what they were measured on."""
    told = {name: str(value) for name, value in _fields(question).items() if value}
    report = {"measured": told, "figures": [figure.row() for figure in figures]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


def _fields(question: Question) -> dict[str, Path | None]:
    return {name: getattr(question, name) for name in question.__dataclass_fields__}
