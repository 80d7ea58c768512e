"""Prompts that are too long: the visitor is told which words the model never saw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tiny_families.house import family_manager, family_request
from tiny_families.parts import MAX_TOKENS
from tiny_house import tiny_manager, tiny_request

from pipelines.lengths import cut_text, notes_on_prompts
from pipelines.loader import LoadedModel

WORDS = MAX_TOKENS - 2


@pytest.fixture(scope="module")
def loaded() -> Iterator[LoadedModel]:
    with tiny_manager().borrow("mini") as loaded:
        yield loaded


def test_a_prompt_that_just_fits_is_not_cut(loaded: LoadedModel) -> None:
    assert cut_text(loaded.pipeline.tokenizer, "x" * WORDS, WORDS) == ""
    assert cut_text(loaded.pipeline.tokenizer, "", WORDS) == ""


@pytest.mark.parametrize("kept", ["x" * WORDS, " " + "xy " * 37 + "x"])
def test_what_is_cut_is_told_in_the_visitors_own_words(loaded: LoadedModel, kept: str) -> None:
    text = f"{kept} Then a Red Fox, naïve 🦊"
    assert cut_text(loaded.pipeline.tokenizer, text, WORDS) == "Then a Red Fox, naïve 🦊"


def test_the_tokenizer_cuts_there_too(loaded: LoadedModel) -> None:
    tokenizer = loaded.pipeline.tokenizer
    text = "a cat on a mat " * 20
    read = tokenizer(text, truncation=True).input_ids
    kept = text[: text.rindex(cut_text(tokenizer, text, WORDS))]
    assert tokenizer(kept).input_ids[:-2] == read[:-2]  # the cut may part a word


def test_each_prompt_gets_its_own_note(loaded: LoadedModel) -> None:
    request = tiny_request(prompt="x" * 80, negative_prompt="y" * 9000)
    first, second = notes_on_prompts(loaded, request)
    assert first.startswith("The prompt is longer than the 75 tokens")
    assert "“xxxxx”" in first
    assert second.startswith("The negative prompt")
    assert second.endswith("8,725 more characters")
    assert notes_on_prompts(loaded, tiny_request()) == ()


def test_nothing_is_cut_where_long_prompts_are_read_in_pieces(loaded: LoadedModel) -> None:
    request = tiny_request(prompt="x" * 80, negative_prompt="y" * 9000, prompt_syntax="a1111")
    assert notes_on_prompts(loaded, request) == ()


def test_a_long_tokenizer_is_asked_as_far_as_the_row_says(loaded: LoadedModel) -> None:
    told = replace(loaded, spec=replace(loaded.spec, prompt_encoder="t5", max_tokens=302))
    request = tiny_request(prompt="x" * 305, prompt_syntax="a1111")
    (note,) = notes_on_prompts(told, request)
    assert note.endswith("the 300 tokens that this model reads. Left out: “xxxxx”")


def test_a_model_that_cannot_change_its_words_says_so() -> None:
    request = family_request("sd-x4-upscaler", prompt="a [red:blue:0.5] fox", prompt_syntax="a1111")
    with family_manager("sd-x4-upscaler").borrow("sd-x4-upscaler") as loaded:
        (note,) = notes_on_prompts(loaded, request)
        assert "keeps the words that it begins with" in note
        assert notes_on_prompts(loaded, replace(request, prompt="a (red) fox")) == ()
