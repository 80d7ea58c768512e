"""Tests of the lab: the corpus is exact and reproducible, and training can be resumed."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest
import torch

from lab import corpus_fetch, sources, store
from lab.colour_rule import colour_shares, has_colour
from lab.concepts import read_concepts
from lab.corpus_buildings import draw_building
from lab.corpus_garments import draw_garment
from lab.corpus_patterns import PATTERNS, cloth, draw_pattern
from lab.corpus_rooms import draw_room
from lab.example import Example
from lab.palette import COLOURS, SYNONYMS
from lab.tokens import MAX_TOKENS, tokenize, train_tokenizer

PAINTERS = {
    "pattern": draw_pattern,
    "garment": draw_garment,
    "building": draw_building,
    "room": draw_room,
}
CAPTIONS = ["a red and white polka dot dress", "a blue house at night", "green stripes"] * 8


def draw(kind: str, count: int, seed: int = 0) -> list[Example]:
    rng = np.random.default_rng(seed)
    return [PAINTERS[kind](rng) for _ in range(count)]


def fingerprint(examples: list[Example]) -> str:
    digest = sha256()
    for example in examples:
        digest.update(example.image.tobytes() + example.caption.encode())
    return digest.hexdigest()


@pytest.mark.parametrize("kind", PAINTERS)
def test_the_same_seed_draws_the_same_corpus(kind):
    assert fingerprint(draw(kind, 6)) == fingerprint(draw(kind, 6))
    assert fingerprint(draw(kind, 6)) != fingerprint(draw(kind, 6, seed=1))


def test_another_process_draws_the_same_corpus():
    # Only numpy and Pillow are loaded there: hash seeds and import order differ, pictures do not.
    program = (
        "import numpy as np; from lab.corpus_rooms import draw_room;"
        "example = draw_room(np.random.default_rng(0));"
        "print(example.caption, int(example.image.astype(int).sum()))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    example = draw("room", 1)[0]
    assert told.stdout.strip() == f"{example.caption} {int(example.image.astype(int).sum())}"


@pytest.mark.parametrize("kind", PAINTERS)
def test_captions_name_every_colour_they_claim(kind):
    for example in draw(kind, 40):
        for colour in example.colours:
            words = (colour, *SYNONYMS.get(colour, ()))
            assert any(word in example.caption for word in words), (colour, example.caption)


def test_the_named_colours_of_a_cloth_are_in_its_pixels():
    for example in draw("pattern", 60):
        assert all(has_colour(example.image, colour) for colour in example.colours), example.caption


def test_a_colour_that_is_not_drawn_is_not_found():
    image = np.full((64, 64, 3), COLOURS["green"], np.uint8)
    assert colour_shares(image)["green"] == 1.0
    assert not has_colour(image, "pink")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_shows_both_colours_in_earnest(pattern):
    shares = colour_shares(cloth(np.random.default_rng(3), pattern, ["navy", "yellow"]))
    assert min(shares["navy"], shares["yellow"]) > 0.04


def test_training_and_evaluation_share_no_combination():
    examples = [example for kind in PAINTERS for example in draw(kind, 60)]
    kept = {example.combination for example in examples if example.held_out}
    trained = {example.combination for example in examples if not example.held_out}
    assert kept and not kept & trained
    assert 0.03 < len(kept) / (len(kept) + len(trained)) < 0.2


def test_hold_out_does_not_depend_on_the_wording():
    image = np.zeros((64, 64, 3), np.uint8)
    one, other = (
        Example(image=image, caption=caption, kind="object", thing="cat", colours=colours)
        for caption, colours in (("a blue cat", ("blue", "white")), ("kitten", ("white", "blue")))
    )
    assert one.combination == other.combination


def test_a_missing_npm_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sources.shutil, "which", lambda name: None)
    with pytest.raises(corpus_fetch.MissingCorpus, match="`npm` is needed to fetch `@iconify"):
        corpus_fetch.fetch_sprites(tmp_path)


def test_missing_sprites_say_how_to_get_them(tmp_path):
    with pytest.raises(corpus_fetch.MissingCorpus, match="python -m lab.train"):
        corpus_fetch.load_sprites(tmp_path)


def test_every_concept_has_words_and_icons():
    concepts = read_concepts()
    assert len(concepts) > 200
    assert all(concept.words and concept.icons for concept in concepts.values())


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.9])
def test_a_cut_checkpoint_is_named(tmp_path, keep):
    path = tmp_path / "run.safetensors"
    store.save_checkpoint(path, {"weight": torch.ones(64)}, {"step": 3})
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(store.CorruptCheckpoint, match="run.safetensors"):
        store.load_checkpoint(path)


def test_any_text_has_tokens(tmp_path):
    tokenizer = train_tokenizer(CAPTIONS, tmp_path)
    ids = tokenize(tokenizer, ["a red dress", "東京 Ünï ©", ""])
    assert ids.shape == (3, MAX_TOKENS)
    assert ids.max() < len(tokenizer)
    assert (ids[:, 0] == tokenizer.bos_token_id).all()
    # Were a byte unknown, it would become the end token, and the text would end with it.
    assert (ids[1] != tokenizer.eos_token_id).sum() > 8
    assert tokenizer("A RED Dress").input_ids == tokenizer("a red dress").input_ids
