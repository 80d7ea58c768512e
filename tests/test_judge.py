"""The judge and the exam: what they count as right, and that the judge can learn it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import islice, repeat

import numpy as np
import pytest
import torch
from PIL import Image

from lab import train_judge
from lab.corpus_patterns import draw_pattern
from lab.evaluate import main
from lab.exam import Evidence, Exam, look
from lab.example import Example
from lab.judge import (
    COMMITTED,
    Judge,
    JudgeRanker,
    MissingJudge,
    Names,
    Sight,
    find_judge,
    load_judge,
    save_judge,
)
from lab.judge_lessons import NOWHERE, collect_names, make_lessons, read_lessons
from lab.judge_senses import RELATIONS, prepare, relation_scores, word_buckets
from lab.store import CorruptCheckpoint

NAMES = Names(("cat", "dog", "house"), ("", "stripes"))
RED, BLUE = (214, 38, 40), (40, 92, 208)


def toy_row(rng: np.random.Generator) -> tuple[np.ndarray, dict]:
    """A red and a blue square, one left of or above the other, or one to four of one colour."""
    image = np.full((64, 64, 3), 250, np.uint8)
    row = {"kind": "count", "pattern": "", "place": "", "count": 0, "relation": "", "colours": []}
    names = ["red", "blue"][:: rng.choice((1, -1))]
    colours = {"red": RED, "blue": BLUE}
    if rng.random() < 0.5:
        relation = str(rng.choice(RELATIONS))
        places = {"left of": (24, 4), "right of": (24, 44), "above": (4, 24), "below": (44, 24)}
        first = places[relation]
        for name, (top, left) in zip(names, (first, (48 - first[0], 48 - first[1])), strict=True):
            image[top : top + 14, left : left + 14] = colours[name]
        row |= {
            "things": names,
            "relation": relation,
            "caption": f"{names[0]} {relation} {names[1]}",
        }
    else:
        count = int(rng.integers(1, 5))
        for corner in rng.permutation(4)[:count]:
            top, left = 6 + 32 * (corner // 2), 6 + 32 * (corner % 2)
            image[top : top + 14, left : left + 14] = colours[names[0]]
        row |= {"things": names[:1], "count": count, "caption": f"{count} {names[0]}"}
    return image, row | {"thing": row["things"][0]}


def toy_corpus(folder, count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    pairs = [toy_row(rng) for _ in range(count)]
    folder.mkdir()
    np.save(folder / "shard-000.npy", np.stack([image for image, _ in pairs]))
    (folder / "shard-000.json").write_text(json.dumps([row for _, row in pairs]))
    return [row for _, row in pairs]


def to_example(image: np.ndarray, row: dict) -> Example:
    kept = ("caption", "kind", "thing", "count", "relation")
    return Example(image=image, things=tuple(row["things"]), **{key: row[key] for key in kept})


def test_the_judge_learns_where_things_are_and_how_many(tmp_path, monkeypatch):
    torch.manual_seed(0)
    rows = toy_corpus(tmp_path / "corpus", 256)
    monkeypatch.setattr(train_judge, "BATCH", 32)
    monkeypatch.setattr(train_judge, "disturb", lambda pixels, draw: pixels)
    judge = Judge(collect_names(rows))
    lessons = read_lessons(tmp_path / "corpus", judge.names, [])
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3)
    rng = np.random.default_rng(0)
    for _ in range(60):
        chosen = np.sort(rng.choice(256, 32, replace=False))
        optimizer.zero_grad()
        sum(train_judge.losses(judge, lessons[0], chosen, rng).values()).backward()
        optimizer.step()
    fresh = [to_example(*toy_row(np.random.default_rng(1000 + seed))) for seed in range(120)]
    exam = Exam(judge.eval(), fresh)
    scores = {score.name: score for score in exam.score(look(judge, [e.image for e in fresh]))}
    assert scores["relation"].share > 0.8 > 0.5 > scores["relation"].chance
    assert scores["count, 1 to 4"].share > 0.6 > 0.45 > scores["count, 1 to 4"].chance


def test_training_goes_on_where_it_was(tmp_path):
    rows = toy_corpus(tmp_path / "corpus", 140)
    path = tmp_path / "judge.safetensors"
    train_judge.train_judge(Judge(collect_names(rows)), path, tmp_path / "corpus", 0.0, 0.01)
    judge, state = load_judge(path)
    assert 0.01 <= state["spent"] < 60 and judge.names.things == ("blue", "red")
    again = train_judge.train_judge(judge, path, tmp_path / "corpus", state["spent"], 0.01)
    assert load_judge(path)[1] == state  # its time was spent: no step more
    assert not again.training


def test_a_loaded_judge_sees_what_the_saved_one_saw(tmp_path):
    judge = Judge(NAMES).eval()
    save_judge(tmp_path / "judge.safetensors", judge, {"spent": 3.0})
    loaded, state = load_judge(tmp_path / "judge.safetensors")
    assert loaded.names == NAMES and state == {"spent": 3.0}
    pictures = [np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)]
    one, other = JudgeRanker(judge), JudgeRanker(loaded)
    assert (one.embed_pictures(pictures) == other.embed_pictures(pictures)).all()
    assert (one.embed_texts(["a cat"]) == other.embed_texts(["a cat"])).all()


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_relation_follows_from_where_things_lie(relation):
    cells = torch.full((1, 3, 8, 8), -5.0)
    row, column = {"left of": (3, 0), "right of": (3, 7), "above": (0, 3), "below": (7, 3)}[
        relation
    ]
    cells[0, 2, row, column] = 5.0
    cells[0, 0, 3, 3] = 5.0
    assert RELATIONS[relation_scores(cells, torch.tensor([[2, 0]])).argmax()] == relation
    turned = relation_scores(cells, torch.tensor([[0, 2]])).argmax()
    assert RELATIONS[turned] != relation


def test_a_captions_words_have_places_of_their_own_in_every_process():
    program = "from lab.judge_senses import word_buckets; print(word_buckets('A red cat, 2 dogs'))"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == str(word_buckets("a RED cat 2 dogs"))
    assert word_buckets("a cat on a dog") != word_buckets("a dog on a cat")
    assert word_buckets("") == word_buckets("?!") and len(word_buckets("")) == 1


def test_lessons_hold_only_what_captions_claim():
    bare = {"kind": "scene", "pattern": "", "thing": "", "caption": "night"}
    room = bare | {"kind": "room", "thing": "cat", "things": ["cat"]}
    full = {
        "kind": "relation",
        "pattern": "stripes",
        "thing": "cat",
        "things": ["cat", "dog"],
        "relation": "above",
        "caption": "a cat above a dog",
        "count": 0,
    }
    riding = full | {"relation": "riding", "pattern": "plaid", "things": ["cat", "unicorn"]}
    counted = bare | {"thing": "dog", "count": 3}
    lessons = make_lessons(
        np.zeros((5, 64, 64, 3), np.uint8), [bare, full, riding, counted, room], NAMES
    )
    assert lessons.things.tolist() == [
        [-1] * 4,
        [0, 1, -1, -1],
        [0, -1, -1, -1],
        [1, -1, -1, -1],
        [-1] * 4,
    ]
    assert lessons.patterns.tolist() == [0, 1, NOWHERE, 0, 0]
    assert lessons.counts.tolist() == [NOWHERE, NOWHERE, NOWHERE, 2, NOWHERE]
    assert lessons.relations.tolist() == [NOWHERE, 2, NOWHERE, NOWHERE, NOWHERE]


def test_pictures_of_any_size_are_seen_at_one():
    small = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    large = small.repeat(4, 0).repeat(4, 1)
    assert torch.equal(prepare([small]), prepare([large]))
    assert prepare([small]).shape == (1, 3, 64, 64)


IMAGE = np.zeros((64, 64, 3), np.uint8)
EXAMPLES = [
    Example(image=IMAGE, caption=caption, kind="scene", things=things, thing=things[0], **more)
    for caption, things, more in (
        ("a cat above a dog", ("cat", "dog"), {"relation": "above"}),
        ("a house left of a dog", ("house", "dog"), {"relation": "left of"}),
        ("two cats", ("cat",), {"count": 2, "pattern": "stripes"}),
        ("one red dog", ("dog",), {"count": 1, "colours": ("red",)}),
    )
]


def perfect(judge: Judge) -> Evidence:
    """What an eye that errs nowhere would have seen in pictures of the examples."""
    cells = torch.full((4, 3, 8, 8), -9.0)
    cells[0, 0, 0, 3] = cells[0, 1, 7, 3] = cells[1, 2, 3, 0] = cells[1, 1, 3, 7] = 9.0
    cells[2, 0, 1, 1] = cells[3, 1, 1, 1] = 9.0
    patterns = torch.tensor([[1.0, 0], [1, 0], [0, 1], [1, 0]])
    counts = torch.eye(4)[[3, 3, 1, 0]]
    with torch.inference_mode():
        texts = judge.read([example.caption for example in EXAMPLES])
    shares = [{"red": 0.0}, {"red": 0.0}, {"red": 0.0}, {"red": 0.5}]
    return Evidence(shares, Sight(texts, cells, cells.flatten(2).amax(2), patterns, counts))


def test_an_eye_that_errs_nowhere_answers_everything_rightly():
    judge = Judge(NAMES).eval()
    scores = {score.name: score for score in Exam(judge, EXAMPLES).score(perfect(judge))}
    asked = {name: score.n for name, score in scores.items()}
    assert asked == {
        "own caption among 100": 4,
        "named colours": 1,
        "pattern": 1,
        "one thing, first guess": 2,
        "count, 1 to 4": 2,
        "relation": 2,
        "relation, both things seen": 2,
    }
    assert {score.share for score in scores.values()} == {1.0}
    assert scores["own caption among 100"].chance == 0 and scores["count, 1 to 4"].chance == 0


def test_an_eye_that_sees_nothing_answers_nothing_rightly():
    judge = Judge(NAMES).eval()
    sight = perfect(judge).sight
    blind = replace(
        sight, embedding=torch.zeros_like(sight.embedding), cells=torch.zeros(4, 3, 8, 8)
    )
    blind = replace(blind, patterns=torch.tensor([[1.0, 0]] * 4), counts=torch.eye(4)[[3] * 4])
    scores = Exam(judge, EXAMPLES).score(Evidence([{"red": 0.0}] * 4, blind))
    found = {score.name: score.share for score in scores}
    for name in ("own caption among 100", "named colours", "pattern", "count, 1 to 4"):
        assert found[name] == 0


def test_ones_own_judge_goes_before_the_committed_one(tmp_path):
    assert find_judge(tmp_path) == COMMITTED
    save_judge(tmp_path / "judge.safetensors", Judge(NAMES), {})
    assert find_judge(tmp_path) == tmp_path / "judge.safetensors"


def test_the_committed_judge_names_patterns_that_it_never_saw():
    judge, _ = load_judge(COMMITTED)
    rng = np.random.default_rng(12)
    drawn = (draw_pattern(rng) for _ in repeat(None))
    fresh = list(islice((one for one in drawn if one.held_out), 60))
    scores = Exam(judge, fresh).score(look(judge, [one.image for one in fresh]))
    found = {score.name: score for score in scores}
    assert found["pattern"].share > 0.7 > 0.3 > found["pattern"].chance
    assert found["own caption among 100"].share > 0.5 > 0.2 > found["own caption among 100"].chance


def test_a_missing_judge_says_how_to_train_one(tmp_path, capsys):
    with pytest.raises(MissingJudge, match="python -m lab.train_judge"):
        load_judge(tmp_path / "judge.safetensors")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("one", "two"):
        Image.new("RGB", (64, 64), "red").save(folder / f"{name}.png")
    rows = [f'{{"file_name": "{name}.png", "text": "red"}}' for name in ("one", "two")]
    (folder / "metadata.jsonl").write_text("\n".join(rows), "utf-8")
    assert main([str(folder), "--judge", str(tmp_path / "judge.safetensors")]) == 2
    assert "python -m lab.train_judge" in capsys.readouterr().err


def test_a_cut_judge_is_named(tmp_path):
    path = tmp_path / "judge.safetensors"
    save_judge(path, Judge(NAMES), {})
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CorruptCheckpoint, match="judge.safetensors"):
        load_judge(path)
