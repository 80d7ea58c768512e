"""The length of a prompt, told without transformers, is what transformers says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_families.house import family_folder
from transformers import CLIPTokenizer

from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.settings import ROOT, Settings
from studio.specs import ModelSpec
from studio.token_count import TokenCount, TokenCounter

TEXTS = [
    "a red chair",
    "",
    "  Naïve  🦊, it's 1.2 ÉTÉ\n\t  x",
    "a cat on a mat, " * 30,
    "<|endoftext|> x",
]


@pytest.fixture(scope="module")
def builtin() -> ModelSpec:
    return Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, Settings()).get_model("builtin")


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_those_of_transformers(builtin: ModelSpec, text: str) -> None:
    own = CLIPTokenizer.from_pretrained(ROOT / "assets/builtin/tokenizer")
    counted = TokenCounter(Settings()).count(text, builtin, "plain")
    assert counted is not None
    assert counted.tokens == len(own(text, add_special_tokens=False).input_ids)
    assert counted.room == own.model_max_length - 2 == 30


def test_signs_do_not_count(builtin: ModelSpec) -> None:
    def tokens(text: str) -> int:
        counted = TokenCounter(Settings()).count(text, builtin, "a1111")
        assert counted is not None
        return counted.tokens

    assert tokens("a ((red:1.3)) [chair]") == tokens("a red chair")
    assert tokens("a [red chair:fox:0.5] BREAK") == tokens("a red chair")
    assert tokens("a (red") == tokens("a red") + 1


def test_what_is_too_long_is_cut_or_read_in_pieces(builtin: ModelSpec) -> None:
    counter = TokenCounter(Settings())
    long = "red " * 31
    assert counter.count(long, builtin, "plain") == TokenCount(31, 30, is_cut=True)
    assert counter.count(long, builtin, "a1111") == TokenCount(31, 30, is_cut=False)
    assert counter.count("red " * 30, builtin, "plain") == TokenCount(30, 30, is_cut=False)
    sentences = replace(builtin, prompt_encoder="llm", max_tokens=20)
    assert counter.count(long, sentences, "a1111") == TokenCount(31, 18, is_cut=True)


@pytest.mark.parametrize("text", TEXTS)
def test_a_tokenizer_of_words_and_merges_counts_the_same(
    builtin: ModelSpec, tmp_path: Path, text: str
) -> None:
    source = ROOT / "assets/builtin/tokenizer"
    model = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "tokenizer_config.json").write_bytes((source / "tokenizer_config.json").read_bytes())
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = "\n".join(one if isinstance(one, str) else " ".join(one) for one in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    counter = TokenCounter(Settings(model_paths={"builtin": tmp_path}))
    assert counter.count(text, builtin, "plain") == TokenCounter(Settings()).count(
        text, builtin, "plain"
    )


def test_a_tokenizer_that_is_not_here_or_broken_counts_nothing(
    builtin: ModelSpec, tmp_path: Path
) -> None:
    away = replace(builtin, sources=("nobody/nothing",))
    assert TokenCounter(Settings()).count("a", away, "plain") is None
    counter = TokenCounter(Settings(model_paths={"builtin": tmp_path}))
    assert counter.count("a", builtin, "plain") is None
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text("{}")
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("nonsense")
    assert (
        TokenCounter(Settings(model_paths={"builtin": tmp_path})).count("a", builtin, "plain")
        is None
    )


def test_sdxl_counts_by_its_first_tokenizer() -> None:
    catalogue = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, Settings())
    settings = Settings(model_paths={"sdxl": family_folder("sdxl")})
    counted = TokenCounter(settings).count("xy " * 40, catalogue.get_model("sdxl"), "a1111")
    assert counted == TokenCount(80, 75, is_cut=False)
