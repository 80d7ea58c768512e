"""The command that measures pictures: `python -m lab.evaluate FOLDER`, or `--builtin`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from lab.builtin_quality import add_options, score_builtin
from lab.corpus_fetch import MissingCorpus
from lab.judge import MissingJudge
from lab.metrics.errors import CannotMeasure
from lab.metrics.figures import table
from lab.metrics.measure import Question, measure, write_json
from lab.store import CorruptCheckpoint


def build_parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    parser = argparse.ArgumentParser(prog="python -m lab.evaluate", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="folder of pictures to measure")
    parser.add_argument(
        "--captions", type=Path, help=".jsonl, .csv or .tsv with file_name and text per picture"
    )
    parser.add_argument("--reference", type=Path, help="folder of real pictures to compare with")
    parser.add_argument("--inception", type=Path, help="file of Inception's weights, for FID")
    parser.add_argument("--clip", type=Path, help="folder of a CLIP checkpoint, for R-precision")
    parser.add_argument("--judge", type=Path, help="file of the lab's judge, for R-precision")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--builtin", action="store_true", help="measure the built-in model instead")
    add_options(parser.add_argument_group("with --builtin"))
    return parser


def measure_folder(options: argparse.Namespace) -> None:
    """Measure a folder, print the figures and write them where asked."""
    question = Question(
        folder=options.folder,
        captions=options.captions,
        reference=options.reference,
        inception=options.inception,
        clip=options.clip,
        judge=options.judge,
    )
    figures = measure(question)
    print(table(figures))
    if question.reference is None:
        print("No distance to real pictures: that needs --reference FOLDER.")
    if not any(figure.name.startswith("R-precision") for figure in figures):
        print("No R-precision: that needs captions, and --clip FOLDER or --judge FILE.")
    if options.json:
        write_json(options.json, question, figures)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0, or 2 when something given cannot be used."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.builtin == (options.folder is not None):
        parser.error("give a folder of pictures, or --builtin")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        (score_builtin if options.builtin else measure_folder)(options)
    except (CannotMeasure, CorruptCheckpoint, MissingJudge, MissingCorpus) as error:
        print(f"Cannot measure: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
