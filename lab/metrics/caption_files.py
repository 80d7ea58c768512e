"""Caption files: which picture was drawn for which words.

Accepted are JSON lines (`.jsonl`), comma- and tab-separated values (`.csv`, `.tsv`), each with the
columns `file_name` (or `file`, `image`) and `text` (or `caption`, `prompt`), in UTF-8, the first
line of a table naming its columns; and a folder with a `metadata.jsonl` or `metadata.csv` in it, as
`datasets` writes them. A picture with several captions has several lines.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from lab.metrics.errors import CaptionsDoNotMatch, UnreadableCaptions
from lab.metrics.ranking import Texts

NAME_COLUMNS = ("file_name", "file", "image")
TEXT_COLUMNS = ("text", "caption", "prompt")
FOLDER_FILES = ("metadata.jsonl", "metadata.csv")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
FORMS = "JSON lines (.jsonl), .csv or .tsv with the columns `file_name` and `text`"


def read_captions(path: Path) -> dict[str, Texts]:
    """Return file name -> its captions.

    Raises:
        UnreadableCaptions: if the file is missing, empty or of no accepted form.
    """
    path = _file_in(path) if path.is_dir() else path
    captions: dict[str, Texts] = {}
    try:
        for number, row in _rows(path):
            name, text = _field(row, NAME_COLUMNS), _field(row, TEXT_COLUMNS)
            if not name or text is None:
                raise UnreadableCaptions(
                    f"`{path}`, line {number}: no file name or no text; accepted are {FORMS}."
                )
            captions[name] = (*captions.get(name, ()), text)
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise UnreadableCaptions(f"`{path}` cannot be read as captions: {error}") from error
    if not captions:
        raise UnreadableCaptions(f"`{path}` holds no captions.")
    return captions


def find_captions(folder: Path) -> Path | None:
    """Return the caption file that lies in a folder of pictures, None where there is none."""
    found = [folder / name for name in FOLDER_FILES if (folder / name).is_file()]
    return found[0] if found else None


def match(names: list[str], captions: dict[str, Texts], where: Path) -> list[Texts]:
    """Return the captions of the pictures in the order of `names`.

    Raises:
        CaptionsDoNotMatch: if a picture has no caption, or a caption no picture.
    """
    bare = [name for name in names if name not in captions]
    lost = sorted(set(captions) - set(names))
    if bare or lost:
        raise CaptionsDoNotMatch(
            f"The captions do not match `{where}`: {_some(bare, 'pictures without a caption')}; "
            f"{_some(lost, 'captions without a picture')}."
        )
    return [captions[name] for name in names]


def _some(names: list[str], what: str) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} {what}" + (f" ({shown})" if names else "")


def _file_in(folder: Path) -> Path:
    found = find_captions(folder)
    if not found:
        raise UnreadableCaptions(f"`{folder}` holds neither {' nor '.join(FOLDER_FILES)}.")
    return found


def _rows(path: Path) -> Iterator[tuple[int, dict]]:
    if path.suffix.lower() not in (".jsonl", *SEPARATORS):
        raise UnreadableCaptions(f"`{path}` is no caption file; accepted are {FORMS}.")
    with path.open(encoding="utf-8-sig", newline="") as lines:
        if path.suffix.lower() == ".jsonl":
            for number, line in enumerate(lines, 1):
                if line.strip():
                    row = json.loads(line)
                    yield number, row if isinstance(row, dict) else {}
        else:
            table = csv.DictReader(lines, delimiter=SEPARATORS[path.suffix.lower()])
            for row in table:
                yield table.line_num, row


def _field(row: dict, columns: tuple[str, ...]) -> str | None:
    """Return the first of the columns that the row has as text."""
    return next((row[name] for name in columns if isinstance(row.get(name), str)), None)
