"""The whole corpus: which part is drawn how often, and the shards that training reads.

python -m lab.corpus .lab/corpus    prints the hash of every picture and caption
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np

from lab.concepts import read_concepts
from lab.corpus_buildings import draw_building
from lab.corpus_counts import draw_count
from lab.corpus_fetch import fetch_sprites, load_sprites
from lab.corpus_garments import draw_garment
from lab.corpus_objects import draw_object
from lab.corpus_patterns import draw_pattern
from lab.corpus_relations import draw_relation
from lab.corpus_rooms import draw_room
from lab.corpus_scenes import draw_scene
from lab.corpus_stamps import draw_silhouette, draw_stamp, draw_tile
from lab.example import SETUP, Example
from lab.shelf import Shelf
from lab.sources import MissingCorpus
from lab.stamps import open_stamps

SHARD = 10_000
"""Pictures in one shard."""

CORPUS_SEED: int = SETUP["seed"]

SHARES: dict[str, float] = SETUP["shares"]
"""Part of the corpus -> its share of the pictures."""

EXTRAS: dict[str, float] = SETUP["extras"]
"""Part of the shards of stamps -> its share of their pictures."""

EXTRAS_FROM, ROUND = 14, 16
"""Of every 16 shards the last two are stamps: numbers 14, 15, 30, 31..."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shard:
    """A block of the corpus as training reads it."""

    images: np.ndarray
    """(N, SIZE, SIZE, 3), uint8."""
    rows: list[dict]
    """Everything that `row` tells of every picture."""


def open_shelf(cache: Path, without: Collection[str] = ()) -> Shelf:
    """Return what training may draw, fetched on the first call; `without` leaves sources out."""
    return whole_shelf(cache, without).seen()


def whole_shelf(cache: Path, without: Collection[str] = ()) -> Shelf:
    """Return every concept in every style, those kept for evaluation too.

    Its `unseen_concepts()` and `unseen_style()` are what training never saw.
    """
    fetch_sprites(cache, without)
    return Shelf(read_concepts(), load_sprites(cache, without))


def with_stamps(shelf: Shelf, cache: Path, without: Collection[str] = ()) -> Shelf:
    """Return a shelf that can draw the extras too, fetched on the first call."""
    return replace(shelf, stamps=open_stamps(cache, without))


def draw_any(
    shelf: Shelf, rng: np.random.Generator, shares: Mapping[str, float] = SHARES
) -> Example:
    """Draw one example of any part."""
    level = np.cumsum(list(shares.values()))
    part = list(shares)[int(np.searchsorted(level, rng.random() * level[-1]))]
    return PARTS[part](shelf, rng)


def shares_of(shelf: Shelf, number: int) -> dict[str, float]:
    """Return the shares of a shard's parts; extras that the shelf goes without are left out."""
    if number % ROUND < EXTRAS_FROM:
        return SHARES
    found = {part: share for part, share in EXTRAS.items() if shelf.stamps.get(part)}
    if not found:
        raise MissingCorpus(f"Shard {number} is of stamps, and all of them are left out.")
    return found


PARTS: dict[str, Callable[[Shelf, np.random.Generator], Example]] = {
    "pattern": lambda shelf, rng: draw_pattern(rng),
    "garment": lambda shelf, rng: draw_garment(rng),
    "room": lambda shelf, rng: draw_room(rng),
    "building": lambda shelf, rng: draw_building(rng),
    "object": draw_object,
    "scene": draw_scene,
    "count": draw_count,
    "relation": draw_relation,
    "tile": lambda shelf, rng: draw_tile(shelf.stamps["tile"], rng),
    "silhouette": lambda shelf, rng: draw_silhouette(shelf.stamps["silhouette"], rng),
    "icon": lambda shelf, rng: draw_stamp(shelf.stamps["icon"], rng, "icon"),
    "clipart": lambda shelf, rng: draw_stamp(shelf.stamps["clipart"], rng, "clipart"),
    "furniture": lambda shelf, rng: draw_stamp(shelf.stamps["furniture"], rng, "furniture"),
}
"""Part of the corpus -> what draws it."""


def draw_examples(
    shelf: Shelf,
    rng: np.random.Generator,
    *,
    held_out: bool,
    shares: Mapping[str, float] = SHARES,
) -> Iterator[Example]:
    """Yield examples of one side of the split without end."""
    while True:
        example = draw_any(shelf, rng, shares)
        if example.held_out == held_out:
            yield example


def write_shard(shelf: Shelf, folder: Path, number: int, size: int = SHARD) -> None:
    """Draw shard `number` of `size` pictures for training, unless it is there already."""
    stem = folder / f"shard-{number:03d}"
    if stem.with_suffix(".json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([CORPUS_SEED, number])
    drawn = draw_examples(shelf, rng, held_out=False, shares=shares_of(shelf, number))
    examples = list(islice(drawn, size))
    np.save(stem.with_suffix(".npy"), np.stack([example.image for example in examples]))
    # The rows come last: their presence says that the shard is whole.
    stem.with_suffix(".json").write_text(
        json.dumps([row(example) for example in examples]), "utf-8"
    )
    _log.info("drew shard %d", number)


def row(example: Example) -> dict:
    """Return everything about an example but its picture."""
    return {
        "caption": example.caption,
        "kind": example.kind,
        "colours": list(example.colours),
        "pattern": example.pattern,
        "thing": example.thing,
        "place": example.place,
        "things": list(example.things or ([example.thing] if example.thing else [])),
        "count": example.count,
        "relation": example.relation,
        "style": example.style,
    }


def read_shard(folder: Path, number: int) -> Shard:
    """Return a shard; its pictures stay on disk until they are looked at."""
    stem = folder / f"shard-{number:03d}"
    rows = json.loads(stem.with_suffix(".json").read_text("utf-8"))
    return Shard(np.load(stem.with_suffix(".npy"), mmap_mode="r", allow_pickle=False), rows)


def count_shards(folder: Path) -> int:
    """Return how many whole shards there are, counted from the first."""
    number = 0
    while (folder / f"shard-{number:03d}.json").exists():
        number += 1
    return number


def corpus_hash(folder: Path) -> str:
    """Return the SHA-256 of every picture and row of a corpus, in the order of its shards."""
    digest = sha256()
    for number in range(count_shards(folder)):
        shard = read_shard(folder, number)
        for start in range(0, len(shard.images), 1000):
            digest.update(np.ascontiguousarray(shard.images[start : start + 1000]).tobytes())
        digest.update(json.dumps(shard.rows, sort_keys=True).encode())
    return digest.hexdigest()


def main() -> None:
    """Print the hash of a corpus."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where its shards lie")
    folder = parser.parse_args().folder
    if not count_shards(folder):
        parser.error(f"`{folder}` has no shard-000; `python -m lab.train --stage corpus` draws it")
    print(corpus_hash(folder))


if __name__ == "__main__":
    main()
