"""Prompts that are too long: the visitor is told which words the model never saw."""

from __future__ import annotations

import pytest
from tiny_families.parts import MAX_TOKENS
from tiny_house import tiny_manager, tiny_request
from transformers import PreTrainedTokenizerBase

from pipelines.prompts import cut_text, notes_on_length


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    with tiny_manager().borrow("mini") as loaded:
        return loaded.pipeline.tokenizer


def test_a_prompt_that_just_fits_is_not_cut(tokenizer: PreTrainedTokenizerBase) -> None:
    assert cut_text(tokenizer, "x" * (MAX_TOKENS - 2)) == ""
    assert cut_text(tokenizer, "") == ""


@pytest.mark.parametrize("kept", ["x" * (MAX_TOKENS - 2), " " + "xy " * 37 + "x"])
def test_what_is_cut_is_told_in_the_visitors_own_words(
    tokenizer: PreTrainedTokenizerBase, kept: str
) -> None:
    assert cut_text(tokenizer, f"{kept} Then a Red Fox, naïve 🦊") == "Then a Red Fox, naïve 🦊"


def test_the_tokenizer_cuts_there_too(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "a cat on a mat " * 20
    read = tokenizer(text, truncation=True).input_ids
    kept = text[: text.rindex(cut_text(tokenizer, text))]
    assert tokenizer(kept).input_ids[:-2] == read[:-2]  # the cut may part a word


def test_each_prompt_gets_its_own_note(tokenizer: PreTrainedTokenizerBase) -> None:
    request = tiny_request(prompt="x" * 80, negative_prompt="y" * 9000)
    first, second = notes_on_length(tokenizer, request)
    assert first.startswith("The prompt is longer than the 75 tokens")
    assert "“xxxxx”" in first
    assert second.startswith("The negative prompt")
    assert second.endswith("8,725 more characters")
    assert notes_on_length(tokenizer, tiny_request()) == ()
