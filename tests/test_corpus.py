"""Tests of the corpus: it is reproducible, its captions are true, what is held out stays unseen."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lab import captions, corpus_fetch, sources
from lab.concepts import HELD_OUT_STYLES, read_concepts
from lab.corpus import EXTRAS, EXTRAS_FROM, SHARES, corpus_hash, draw_any, row, write_shard
from lab.corpus_counts import LAYOUTS, draw_count
from lab.corpus_fetch import as_drawing
from lab.corpus_patterns import PATTERNS, cloth
from lab.corpus_relations import WORDS, draw_relation
from lab.corpus_stamps import draw_tile
from lab.example import MIRRORED
from lab.seams import seam_score
from lab.shelf import Shelf
from lab.sources import MissingCorpus
from lab.stamp_words import is_held_out, plain_words
from lab.stamps import STAMPS, Stamp, as_tile
from lab.tiles import lay, read_tiles

ROOT = Path(__file__).resolve().parents[1]
STYLES = ("noto", *HELD_OUT_STYLES)
HUES = [(220, 30, 30), (30, 160, 60), (30, 60, 220), (230, 200, 40), (150, 40, 170)]
DOT_TILE = '<svg width="20" height="20" viewBox="0 0 20 20" xmlns="http://www.w3.org/2000/svg">'
DOT_TILE += '<circle cx="3" cy="0" r="3" fill="#000000"/><circle cx="3" cy="20" r="3"/></svg>'


def sprite(number: int) -> np.ndarray:
    """Draw a disc or a box in one of five colours, (96, 96, 4)."""
    picture = Image.new("RGBA", (96, 96))
    pen = ImageDraw.Draw(picture)
    shape = pen.ellipse if number % 2 else pen.rectangle
    shape((8, 8, 88, 88), fill=(*HUES[number % len(HUES)], 255))
    return np.asarray(picture)


@pytest.fixture(scope="module")
def whole() -> Shelf:
    return build_shelf()


def build_shelf() -> Shelf:
    """Return every concept in a seen style and in the held-out one, as discs or boxes."""
    drawings = {
        name: [as_drawing(sprite(number + index), style) for index, style in enumerate(STYLES)]
        for number, name in enumerate(read_concepts())
    }
    stamps = {
        part: [Stamp("dragon head", as_drawing(sprite(3), style))]
        for part, style in (
            *(("silhouette", "game-icons"), ("clipart", "openclipart")),
            *(("icon", "flat-color-icons"), ("furniture", "furniture")),
        )
    }
    stamps["tile"] = [Stamp("dots", as_tile(np.asarray(lay(DOT_TILE, 60)), "hero-patterns"))]
    return Shelf(read_concepts(), drawings, stamps)


@pytest.mark.parametrize("number", [0, EXTRAS_FROM])
def test_the_same_seed_gives_the_same_corpus_hash(whole, tmp_path, number):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        write_shard(whole.seen(), folder, number, 12)
        for kind in ("json", "npy"):
            drawn = folder / f"shard-{number:03d}.{kind}"
            drawn.rename(folder / f"shard-000.{kind}")
    assert corpus_hash(folders[0]) == corpus_hash(folders[1])
    text = (folders[1] / "shard-000.json").read_text("utf-8")
    (folders[1] / "shard-000.json").write_text(text.replace(" a ", " one ", 1), "utf-8")
    assert corpus_hash(folders[0]) != corpus_hash(folders[1])


def test_the_command_prints_the_hash_of_a_corpus(whole, tmp_path):
    write_shard(whole.seen(), tmp_path, 0, 3)
    command = [sys.executable, "-m", "lab.corpus", str(tmp_path)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == corpus_hash(tmp_path)


def test_a_folder_without_shards_has_no_hash(tmp_path):
    command = [sys.executable, "-m", "lab.corpus", str(tmp_path)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 2 and "has no shard-000" in told.stderr


def test_held_out_concepts_and_style_are_never_drawn_for_training(whole):
    seen, rng = whole.seen(), np.random.default_rng(0)
    kept = set(whole.unseen_concepts().concepts)
    assert 0.1 < len(kept) / len(whole.concepts) < 0.2
    shares = {part: share for part, share in SHARES.items() if part not in ("room", "building")}
    drawn = [draw_any(seen, rng, shares) for _ in range(300)]
    assert not kept & {name for example in drawn for name in example.things}
    assert not set(HELD_OUT_STYLES) & {example.style for example in drawn}


def test_the_kept_shelves_hold_what_training_does_not_see(whole):
    assert set(whole.unseen_style().concepts) == set(whole.seen().concepts)
    rng, only = np.random.default_rng(0), whole.unseen_style()
    assert {draw_count(only, rng).style for _ in range(20)} == set(HELD_OUT_STYLES)


def middles(image: np.ndarray) -> int:
    """Count the pieces of a picture that differ from its corner, by flooding."""
    apart = np.abs(image.astype(int) - image[0, 0].astype(int)).sum(2) > 90
    mask = Image.fromarray((apart * 255).astype(np.uint8))
    found = 0
    while (spots := np.argwhere(np.asarray(mask) == 255)).size:
        piece = mask.copy()
        ImageDraw.floodfill(piece, (int(spots[0][1]), int(spots[0][0])), 1)
        # Specks are the soft edges of a thing.
        found += int((np.asarray(piece) == 1).sum() > 20)
        mask = piece.point(lambda value: 0 if value == 1 else value)
    return found


def test_a_count_is_the_number_of_things_in_the_picture(whole):
    rng = np.random.default_rng(1)
    drawn = [draw_count(whole.seen(), rng) for _ in range(60)]
    assert {example.count for example in drawn} == set(LAYOUTS)
    assert all(middles(example.image) == example.count for example in drawn)


def centre(image: np.ndarray, ground: np.ndarray, hue: tuple[int, int, int]) -> np.ndarray:
    """Return the middle, (x, y), of the pixels that are nearer to a hue than to the ground."""
    near = np.abs(image.astype(int) - hue).sum(2) < 60
    return np.argwhere(near).mean(0)[::-1]


@pytest.mark.parametrize("relation", ["left of", "right of", "above", "below"])
def test_a_relation_is_how_the_things_lie(whole, relation):
    names = ["cat", "tree"]
    drawings = {name: [as_drawing(sprite(at), "noto")] for at, name in enumerate(names)}
    shelf = Shelf({name: whole.concepts[name] for name in names}, drawings)
    rng, checked = np.random.default_rng(2), 0
    while checked < 6:
        example = draw_relation(shelf, rng)
        if example.relation != relation or example.place or example.colours:
            continue
        one, other = (
            centre(example.image, example.image[0, 0], HUES[names.index(name)])
            for name in example.things
        )
        axis = 0 if relation in ("left of", "right of") else 1
        first, second = (other, one) if relation in MIRRORED else (one, other)
        assert second[axis] - first[axis] > 16
        checked += 1


def test_a_relation_is_worded_from_either_end_alike(whole):
    rng = np.random.default_rng(3)
    drawn = [draw_relation(whole.seen(), rng) for _ in range(80)]
    assert {example.relation for example in drawn} == set(WORDS)
    assert all(len(example.things) == 2 and example.thing == example.things[0] for example in drawn)
    assert set(row(drawn[0])) >= {"things", "count", "relation", "style"}


@pytest.mark.parametrize(
    ("one", "several"),
    [
        *(("cat", "cats"), ("mouse", "mice"), ("cup of coffee", "cups of coffee")),
        *(("maple leaf", "maple leaves"), ("red strawberry", "red strawberries")),
        *(("fox", "foxes"), ("monkey", "monkeys"), ("sheep", "sheep"), ("wolf", "wolves")),
    ],
)
def test_plurals(one, several):
    assert captions.plural(one) == several


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_tiles(pattern):
    pictures = [cloth(np.random.default_rng(n), pattern, ["navy", "yellow"]) for n in range(6)]
    assert max(joins(picture, axis) for picture in pictures for axis in "xy") < 2


def joins(picture: np.ndarray, axis: str) -> float:
    """Return the jump across the edges over the largest jump between neighbours inside."""
    lines = np.moveaxis(picture.astype(float), 1 if axis == "x" else 0, 0)
    inner = np.abs(np.diff(lines, axis=0)).mean((1, 2)).max()
    return float(np.abs(lines[0] - lines[-1]).mean() / max(inner, 1e-9))


def test_a_ramp_does_not_tile():
    ramp = np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    assert joins(ramp, "x") > 10 and seam_score(ramp, "x") > 10


def test_tiles_join_wherever_they_are_cut(whole):
    rng = np.random.default_rng(4)
    for _ in range(8):
        picture = draw_tile(whole.stamps["tile"], rng).image
        assert max(joins(picture, axis) for axis in "xy") <= 1


def test_tiles_are_read_from_the_script_of_the_package():
    script = (
        'exports.plus=(c="#000000",h=1)=>"url(\'data:image/svg+xml,%3Csvg%20fill%3D%22%23"'
        '.concat(l(c),"%22%20fill-opacity%3D%22").concat(h,"%22%3E%3C%2Fsvg%3E\')"),'
        'exports.jupiter=(c)=>"%3Csvg%3E%3C%2Fsvg%3E";'
    )
    assert read_tiles(script) == {"plus": '<svg fill="#000000" fill-opacity="1"></svg>'}


def test_stamps_of_held_out_concepts_are_known_by_any_word():
    kept = [concept for concept in read_concepts().values() if concept.held_out]
    assert all(is_held_out(f"two {captions.plural(word)}") for c in kept for word in c.words)
    assert not is_held_out("dragon head") and not is_held_out("cat")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *(("dragon-head", "dragon head"), ("pine-tree-duo", "pine tree"), ("abstract-062", "")),
        *(("Pine Tree 02", "pine tree"), ("upload", ""), ("x", ""), ("Fagiolo è", "")),
    ],
)
def test_the_words_of_a_stamp(name, words):
    assert plain_words(name) == words


@pytest.mark.parametrize("part", STAMPS)
def test_a_missing_package_is_one_error_that_names_the_command(part, tmp_path, monkeypatch):
    monkeypatch.setattr(sources.shutil, "which", lambda name: None)
    with pytest.raises(MissingCorpus) as raised:
        next(iter(STAMPS[part](tmp_path)))
    program = r"npm pack \S+@\d" if part in ("silhouette", "tile", "icon") else "apt-get download "
    assert raised.match(rf"Run `{program}.*leave it out with `--without {part}`")


def test_training_without_a_package_says_how_to_get_it(tmp_path):
    command = [sys.executable, "-m", "lab.train", "--stage", "corpus", "--cache", str(tmp_path)]
    for style in corpus_fetch.EMOJI_STYLES:
        command += ["--without", style] if style != "twemoji" else []
    told = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PATH": ""}
    )
    assert told.returncode == 1
    assert "npm pack @iconify-json/twemoji@" in told.stderr and "Traceback" not in told.stderr


def test_one_number_switches_the_size_of_every_part(tmp_path):
    copy = tmp_path / "lab"
    shutil.copytree(ROOT / "lab", copy, ignore=shutil.ignore_patterns("__pycache__", "results"))
    setup = (copy / "corpus.toml").read_text("utf-8")
    (copy / "corpus.toml").write_text(re.sub(r"(?m)^size = 64\b", "size = 128", setup), "utf-8")
    program = (
        "import numpy as np; from test_corpus import build_shelf; from lab.corpus import PARTS\n"
        "shelf, rng = build_shelf().seen(), np.random.default_rng(0)\n"
        "print([PARTS[part](shelf, rng).image.shape for part in PARTS])\n"
    )
    paths = os.pathsep.join(map(str, (tmp_path, ROOT, ROOT / "tests")))
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert told.returncode == 0, told.stderr[-500:]
    assert told.stdout.count("(128, 128, 3)") == len(SHARES) + len(EXTRAS)


@pytest.mark.parametrize(
    ("core", "said"),
    [
        ("a fox", "a glossy 3D fox"),
        ("an owl riding a cat", "a glossy 3D owl riding a cat"),
        ("three zebras", "three zebras, glossy 3D"),
        ("fish on a red ground", "fish on a red ground, glossy 3D"),
    ],
)
def test_a_style_with_an_article_is_said_of_one_thing_only(core: str, said: str) -> None:
    assert captions.in_style("a glossy 3D {}", core) == said
