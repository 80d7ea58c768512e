"""How brackets are read is the visitor's choice, and an old recipe draws what it drew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.errors import InvalidRequest
from studio.request import GenerationRequest
from studio.settings import Settings
from ui.controls import fit
from ui.form import defaults_of, fill, follow_model, from_request, restore, shown_of, to_request


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, Settings())


def test_requests_of_before_there_was_a_choice_are_plain(catalogue: Catalogue) -> None:
    values = catalogue.default_request("builtin", "a [red] fox").to_json()
    assert values.pop("prompt_syntax") == "a1111"
    assert GenerationRequest.from_json(values).prompt_syntax == "plain"


def test_the_choice_is_kept_in_json(catalogue: Catalogue) -> None:
    request = catalogue.default_request("builtin", "a [red] fox")
    assert GenerationRequest.from_json(request.to_json()) == request


@pytest.mark.parametrize("syntax", ["", "A1111", None, ["plain"]])
def test_another_syntax_is_refused(catalogue: Catalogue, syntax: object) -> None:
    request = catalogue.default_request("builtin", "a fox")
    with pytest.raises(InvalidRequest, match="`prompt_syntax` must be one of plain, a1111"):
        replace(request, prompt_syntax=syntax)  # type: ignore[arg-type]


def test_an_old_recipe_in_the_form_draws_the_same_again(catalogue: Catalogue) -> None:
    old = replace(catalogue.default_request("builtin", "a [red] fox"), prompt_syntax="plain")
    form = from_request(old)
    assert form["prompt_syntax"] == "plain"
    assert to_request(shown_of(catalogue.get_model("builtin"), form)) == old
    fresh = defaults_of(catalogue.get_model("builtin"))
    assert fill(catalogue, fresh, {"prompt_syntax": "plain"})["prompt_syntax"] == "plain"


def test_a_fresh_form_weighs_words_and_sentences_are_text(catalogue: Catalogue) -> None:
    clip, sentences = catalogue.get_model("builtin"), catalogue.get_model("flux1-dev")
    form = defaults_of(clip) | {"prompt": "a (red:1.3) fox"}
    assert to_request(shown_of(clip, form)).prompt_syntax == "a1111"
    there = follow_model(catalogue, clip, sentences, form).values
    assert to_request(shown_of(sentences, there)).prompt_syntax == "plain"
    back = follow_model(catalogue, sentences, clip, there).values
    assert to_request(shown_of(clip, back)).prompt_syntax == "a1111"


def test_the_choice_hides_where_there_is_none(catalogue: Catalogue) -> None:
    for key, is_offered in (("builtin", True), ("flux1-dev", False), ("kandinsky22", False)):
        model = catalogue.get_model(key)
        shown = fit(catalogue, model, catalogue.availability(key), defaults_of(model))
        assert shown["prompt_syntax"]["visible"] is is_offered
        said = "reads brackets as text" in str(shown["lacks_note"]["value"])
        assert said is not is_offered
        assert catalogue.default_request(key, "a fox").prompt_syntax == (
            "a1111" if is_offered else "plain"
        )


def test_a_kept_form_with_nonsense_weighs_words(catalogue: Catalogue) -> None:
    kept = {"model": "builtin", "prompt_syntax": "loud"}
    assert restore(catalogue, kept, "builtin")["prompt_syntax"] == "a1111"
    kept["prompt_syntax"] = "plain"
    assert restore(catalogue, kept, "builtin")["prompt_syntax"] == "plain"


def test_drawing_alone_is_a_choice_that_is_kept(catalogue: Catalogue) -> None:
    values = defaults_of(catalogue.get_model("builtin")) | {"prompt": "a fox"}
    assert "exact" not in to_request(values).to_json()
    alone = to_request(values | {"exact": True})
    assert GenerationRequest.from_json(alone.to_json()) == alone
    assert from_request(alone)["exact"] is True
    assert restore(catalogue, {"model": "builtin", "exact": True}, "builtin")["exact"] is True
    with pytest.raises(InvalidRequest, match="`exact` must be on or off"):
        replace(alone, exact="yes")  # type: ignore[arg-type]
