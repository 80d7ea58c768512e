"""The last tokens of a caption repeat what lies where."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from lab import text_slots
from lab.text_slots import (
    SLOTS,
    Repeater,
    Sentence,
    compose,
    read,
    teach_slots,
)
from lab.tokens import MAX_TOKENS, load_tokenizer

TOKENIZER = load_tokenizer(Path("assets/builtin/tokenizer"))
STEPS = 120
THINGS, NOUNS = ("cat", "horse", "cup of coffee", "t-shirt"), ("violin", "lamp")


def toy_encoder() -> CLIPTextModel:
    torch.manual_seed(0)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(TOKENIZER),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=TOKENIZER.bos_token_id,
            eos_token_id=TOKENIZER.eos_token_id,
        )
    )


def words_of(sentence: Sentence, asked: str) -> dict[str, str]:
    """Slot -> the token that it repeats."""
    reading = read(TOKENIZER, [sentence])
    tokens = TOKENIZER.convert_ids_to_tokens(reading.ids[0])
    return {
        SLOTS[slot]: tokens[token].removesuffix("</w>")
        for _, slot, token in getattr(reading, asked).tolist()
    }


def test_slots_repeat_the_words_of_what_lies_there() -> None:
    sentence = Sentence("a red cat left of a horse", ((0, 2), (1, 6)), ((0, 1),))
    assert words_of(sentence, "nouns") == {"left": "cat", "right": "horse"}
    assert words_of(sentence, "colours") == {"left": "red"}


@pytest.mark.parametrize("seed", range(40))
def test_composed_sentences_point_at_their_own_words(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sentence = compose(rng, THINGS, NOUNS)
    found = words_of(sentence, "nouns")
    assert set(found.values()) <= {"cat", "horse", "coffee", "shirt", "violin", "lamp"}
    first, second = (sentence.text.index(found[slot]) for slot in list(found)[:2])
    if " left of" in sentence.text or "to the left" in sentence.text:
        assert list(found) == ["left", "right"]
        assert first < second
    if "riding" in sentence.text or "above" in sentence.text:
        assert list(found) == ["top", "bottom"]


@pytest.mark.parametrize("seed", range(40))
def test_every_relation_puts_its_things_where_they_lie(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sentence = compose(rng, ("carrot", "car"), ("scarlet car",))
    places = words_of(sentence, "nouns")
    assert len(places) == 2
    assert set(places) in ({"left", "right"}, {"top", "bottom"}, {"front", "back"})
    said = [word for word in sentence.text.replace(",", "").split() if word in ("carrot", "car")]
    first, second = said[:2]
    reversed_words = (" right of", " on the right and", " below", " under", " beneath")
    ends = ("right", "left"), ("bottom", "top")
    turned = any(word in sentence.text for word in reversed_words)
    pairs = ends if turned else (("left", "right"), ("top", "bottom"), ("front", "back"))
    assert any((places.get(one), places.get(other)) == (first, second) for one, other in pairs)


def test_a_caption_that_reaches_into_the_slots_is_not_asked() -> None:
    long = Sentence(" ".join(["cat"] * 40), ((0, 0),))
    assert len(read(TOKENIZER, [long]).nouns) == 0


def test_slots_are_learnt_and_the_other_states_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(text_slots.time, "monotonic", lambda: float(next(ticks)))
    repeater, others = Repeater(toy_encoder()), ["a cat", "red stripes"]
    rng = np.random.default_rng(5)
    exam = read(TOKENIZER, [compose(rng, THINGS, NOUNS) for _ in range(64)])
    with torch.no_grad():
        before = [loss.item() for loss in repeater.losses(exam)]
    teach_slots(repeater, TOKENIZER, (THINGS, NOUNS), others, STEPS)
    with torch.no_grad():
        held, noun, colour = (loss.item() for loss in repeater.losses(exam))
    assert noun < 0.8 * before[1]
    assert colour < 0.8 * before[2]
    assert held < 0.5
