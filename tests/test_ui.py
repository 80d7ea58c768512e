"""The page's pure parts: words, sizes, the form, and HTML that hostile text cannot leave."""

import math
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML, tomllib
from studio.errors import InvalidRequest
from studio.ingredients import SecondPass, Start
from studio.jobs import Enlargement, Job, JobState
from studio.progress import Progress
from studio.request import GenerationRequest
from studio.settings import ROOT, Settings
from ui import sizes, stage, words
from ui.controls import fit
from ui.examples import DEFAULT_EXAMPLES, load_examples, render_examples
from ui.form import defaults_of, fill, follow_model, from_request, restore, shown_of, to_request

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'${value}{{x}}"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, Settings())


def a_request(catalogue: Catalogue, **changes: object) -> GenerationRequest:
    return replace(catalogue.default_request("builtin", "a cat"), **changes)


def progress(**changes: object) -> Progress:
    return replace(Progress(job_id="1", state=JobState.RUNNING, total_steps=20), **changes)


# Words


@pytest.mark.parametrize(
    ("position", "said"), [(1, "next"), (2, "2nd"), (3, "3rd"), (11, "11th"), (22, "22nd")]
)
def test_place_in_line(position: int, said: str) -> None:
    assert words.place(position) == f"{said} in line"


@pytest.mark.parametrize(
    ("value", "said"), [(1.42, "1.4 s"), (-1, "0.0 s"), (12.4, "12 s"), (600, "10 min")]
)
def test_durations_have_units(value: float, said: str) -> None:
    assert words.seconds(value) == said


def test_error_speaks_the_labels_of_the_page() -> None:
    message = "`num_inference_steps` must be a whole number between 1 and 200, got 0."
    assert words.plain(message).startswith("Steps must be")


def test_progress_lines() -> None:
    assert stage.progress_text(progress(step=12, eta_s=1.4)) == "Step 12 of 20, 1.4 s left"
    queued = progress(state=JobState.QUEUED, position=2, eta_s=6.2)
    assert stage.progress_text(queued) == "2nd in line, about 6 s"
    several = progress(step=3, num_images=4, image_index=1)
    assert stage.progress_text(several) == "Picture 2 of 4, step 3 of 20"
    loading = progress(state=JobState.LOADING, message="Loading Stable Diffusion 2, 2.6 GB")
    assert stage.progress_text(loading) == "Loading Stable Diffusion 2, 2.6 GB"


# Hostile text


def test_nothing_hostile_leaves_its_place(catalogue: Catalogue) -> None:
    job = Job(
        id="1",
        owner="o",
        request=a_request(catalogue, prompt=HOSTILE),
        state=JobState.FAILED,
        created_at=None,  # type: ignore[arg-type]
        error=HOSTILE,
    )
    loading = progress(state=JobState.LOADING, message=HOSTILE)
    for html in (
        stage.render_failed(job),
        stage.render_live(loading, job.request),
        stage.render_progress(loading, 1),
        render_examples((replace(DEFAULT_EXAMPLES[0], prompt=HOSTILE, image=HOSTILE),)),
        words.button("pick", HOSTILE, value=HOSTILE, title=HOSTILE),
    ):
        assert "<script>" not in html
        assert "<img src=x" not in html


# Sizes


@pytest.mark.parametrize("model", ["builtin", "sd2"])
def test_offered_sizes_are_drawable(catalogue: Catalogue, model: str) -> None:
    spec = catalogue.get_model(model)
    offered = sizes.sizes_of(spec)
    assert (offered[0].width, offered[0].height) == (spec.defaults.width, spec.defaults.height)
    for size in offered:
        request = replace(
            catalogue.default_request(model, "x"), width=size.width, height=size.height
        )
        catalogue.check(request)
    assert len({size.key for size in offered}) == len(offered) >= 5


def test_own_size_is_none_of_the_choices(catalogue: Catalogue) -> None:
    spec = catalogue.get_model("builtin")
    assert sizes.key_of(spec, 64, 64) == "64x64"
    assert sizes.key_of(spec, 72, 64) is None
    assert sizes.key_of(spec, None, "a") is None


# The form


def test_form_and_request_are_inverse(catalogue: Catalogue) -> None:
    request = a_request(catalogue, seed=5, width=72)
    assert to_request(from_request(request)) == request


@pytest.mark.parametrize("seed", ["", "  ", None])
def test_empty_seed_is_random(catalogue: Catalogue, seed: object) -> None:
    values = from_request(a_request(catalogue)) | {"seed": seed}
    assert to_request(values).seed == -1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", "abc"),
        ("seed", "4294967296"),
        ("seed", "-2"),
        ("num_inference_steps", 0),
        ("num_inference_steps", 10_000),
        ("num_inference_steps", 20.5),
        ("num_inference_steps", None),
        ("width", 65),
        ("width", None),
        ("guidance_scale", 31),
        ("prompt", ""),
        ("prompt", "a\x00b"),
        ("prompt", "x" * 10_001),
        ("num_images", 17),
    ],
)
def test_bad_values_are_refused_in_words(catalogue: Catalogue, field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        to_request(from_request(a_request(catalogue)) | {field: value})
    assert words.LABELS[field].lower() in words.plain(str(refused.value)).lower()


def test_whole_numbers_of_the_browser_stay_whole(catalogue: Catalogue) -> None:
    values = from_request(a_request(catalogue)) | {"num_inference_steps": 20.0, "width": 64.0}
    assert to_request(values).num_inference_steps == 20


def test_untouched_settings_follow_the_model(catalogue: Catalogue) -> None:
    old, new = catalogue.get_model("builtin"), catalogue.get_model("sd2")
    followed = follow_model(catalogue, old, new, defaults_of(old) | {"prompt": "a cat"})
    assert followed.values == defaults_of(new) | {"prompt": "a cat"}
    assert "steps 25" in followed.sentence and "size 768 × 768" in followed.sentence


def test_what_a_model_does_not_offer_is_hidden_and_said(catalogue: Catalogue) -> None:
    own = catalogue.get_model("sd2")
    plain = replace(own, key="plain", upscale_choices=(1,), tiling_choices=("none",))
    known = Catalogue({"sd2": own, "plain": plain}, catalogue.schedulers, Settings())
    asked = defaults_of(own) | {"prompt": "a cat", "upscale": 4, "tiling": "x"}
    followed = follow_model(known, own, plain, asked)
    assert (followed.values["upscale"], followed.values["tiling"]) == (1, "none")
    assert "enlarge off and seamless off" in followed.sentence
    shown = fit(known, plain, known.availability("plain"), followed.values)
    assert not shown["upscale"]["visible"] and not shown["tiling"]["visible"]
    assert "no enlarging" in str(shown["lacks_note"])
    assert "no seamless pictures" in str(shown["lacks_note"])
    assert fill(known, followed.values, {"tiling": "x"})["tiling"] == "none"


def test_touched_settings_stay_and_are_named(catalogue: Catalogue) -> None:
    old, new = catalogue.get_model("builtin"), catalogue.get_model("sd2")
    mine = defaults_of(old) | {"num_inference_steps": 33, "scheduler": "unipc"}
    followed = follow_model(catalogue, old, new, mine)
    assert followed.values["num_inference_steps"] == 33
    assert followed.values["scheduler"] == "unipc"
    assert "Yours stay: scheduler UniPC and steps 33." in followed.sentence


def test_size_that_the_new_model_lacks_keeps_its_aspect(catalogue: Catalogue) -> None:
    old, new = catalogue.get_model("builtin"), catalogue.get_model("sd2")
    followed = follow_model(catalogue, old, new, defaults_of(old) | {"width": 64, "height": 96})
    catalogue.check(to_request(followed.values | {"prompt": "x"}))
    assert followed.values["width"] < followed.values["height"]  # type: ignore[operator]


@pytest.mark.parametrize("name", ["scheduler", "width", "height", "tiling", "upscale"])
@pytest.mark.parametrize("odd", [None, [1], {}, -1, 0.0, math.inf, math.nan, 10**400])
def test_a_new_model_follows_whatever_the_form_held(
    catalogue: Catalogue, name: str, odd: object
) -> None:
    old, new = catalogue.get_model("builtin"), catalogue.get_model("sd2")
    followed = follow_model(catalogue, old, new, defaults_of(old) | {name: odd})
    catalogue.check(to_request(followed.values | {"prompt": "x"}))


def test_scheduler_that_the_new_model_lacks_is_replaced(catalogue: Catalogue) -> None:
    old, new = catalogue.get_model("sd2"), catalogue.get_model("builtin")
    followed = follow_model(catalogue, old, new, defaults_of(old) | {"scheduler": "lcm"})
    assert followed.values["scheduler"] == "euler"
    assert "scheduler Euler" in followed.sentence


def test_settings_found_in_a_picture_fill_only_what_was_found(catalogue: Catalogue) -> None:
    before = defaults_of(catalogue.get_model("builtin")) | {"prompt": "mine", "num_images": 3}
    taken = fill(catalogue, before, {"prompt": "theirs", "seed": 9, "unknown": 1})
    assert taken == {"prompt": "theirs", "seed": "9"}


def test_settings_for_another_model_bring_its_defaults(catalogue: Catalogue) -> None:
    before = defaults_of(catalogue.get_model("builtin")) | {"prompt": "mine"}
    taken = fill(catalogue, before, {"model": "sd2", "num_inference_steps": 30})
    wanted = {"prompt": "mine", "num_inference_steps": 30}
    assert before | taken == defaults_of(catalogue.get_model("sd2")) | wanted
    assert "prompt" not in taken


@pytest.mark.parametrize(
    "saved",
    [
        None,
        {},
        {"model": "gone", "scheduler": "gone", "prompt": "kept"},
        {"model": 5, "width": "wide", "num_inference_steps": [], "upscale": True},
        {"model": "sd2", "scheduler": "nope", "upscale": 4},
    ],
)
def test_form_kept_by_the_browser_is_usable_whatever_it_holds(
    catalogue: Catalogue, saved: dict[str, object] | None
) -> None:
    values = restore(catalogue, saved, "builtin")
    catalogue.check(to_request(values | {"prompt": values["prompt"] or "x"}))
    assert values["prompt"] == (saved or {}).get("prompt", "")


def test_form_kept_by_the_browser_comes_back(catalogue: Catalogue) -> None:
    kept = defaults_of(catalogue.get_model("sd2")) | {"prompt": "mine", "seed": "5"}
    assert restore(catalogue, kept, "builtin") == kept


# Enlarging


def test_an_enlargement_speaks_of_parts(catalogue: Catalogue) -> None:
    seen = progress(step=3, total_steps=16, is_enlargement=True, eta_s=4.2)
    assert stage.progress_text(seen) == "Enlarging, 3 of 16 parts done, 4.2 s left"
    drawn = progress(step=20, part=1, parts=4, num_images=2, image_index=1)
    assert stage.progress_text(drawn) == "Picture 2 of 2, enlarging, 1 of 4 parts done"
    assert '<progress max="8" value="5"' in stage.render_progress(drawn, 0)
    job = Job(
        id="1",
        owner="a",
        request=a_request(catalogue),
        enlargement=Enlargement(picture_id="2", width=64, height=64),
        state=JobState.FAILED,
        created_at=datetime.now(timezone.utc),
    )
    taken = replace(seen, state=JobState.LOADING, step=0)
    assert "model" not in stage.render_live(taken, job.request)
    assert "could not be enlarged" in stage.render_failed(job)
    assert "Enlarge it after all" in stage.render_stopped(job, 0)


# Examples


def test_without_a_file_the_examples_are_words(tmp_path: Path) -> None:
    assert load_examples(tmp_path) == DEFAULT_EXAMPLES


def test_examples_come_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "examples.toml").write_text(
        '[[example]]\nprompt = "a cat"\nseed = 3\nimage = "examples/cat.webp"\n'
    )
    examples = load_examples(tmp_path)
    assert examples[0].seed == 3
    assert 'src="examples/cat.webp"' in render_examples(examples)


def test_every_example_has_its_picture_and_every_picture_its_example() -> None:
    examples = tomllib.loads((ROOT / "assets" / "examples.toml").read_text("utf-8"))["example"]
    named = {example["image"] for example in examples}
    assert named == {f"examples/{path.name}" for path in (ROOT / "assets/examples").iterdir()}


def test_what_a_model_hides_is_sent_as_the_model_sets_it(catalogue: Catalogue) -> None:
    own = catalogue.get_model("builtin")
    plain = replace(own, negative_prompt=False, guidance="none", schedulers=("euler",))
    asked = defaults_of(own) | {"prompt": "a cat", "negative_prompt": "rain", "guidance_scale": 9.0}
    sent = to_request(shown_of(plain, asked))
    assert (sent.negative_prompt, sent.guidance_scale) == ("", own.defaults.guidance_scale)
    assert to_request(shown_of(own, asked)).negative_prompt == "rain"
    shown = fit(catalogue, plain, catalogue.availability("builtin"), asked)
    for name in ("negative_prompt", "guidance_scale", "scheduler"):
        assert shown[name]["visible"] is False
    assert "knows no words to leave out" in str(shown["lacks_note"]["value"])
    known = Catalogue({"builtin": plain}, catalogue.schedulers, Settings())
    with pytest.raises(InvalidRequest, match="negative_prompt"):
        known.check(to_request(asked | {"guidance_scale": own.defaults.guidance_scale}))
    with pytest.raises(InvalidRequest, match="guidance built in"):
        known.check(to_request(asked | {"negative_prompt": ""}))


def test_a_start_goes_through_the_form_and_back(catalogue: Catalogue) -> None:
    fresh = defaults_of(catalogue.get_model("builtin")) | {"prompt": "a cat", "seed": "7"}
    assert to_request(fresh).start is None
    extended = fresh | {"start_picture": "0f" * 16, "start_task": "outpainting", "extend_left": 24}
    request = to_request(extended)
    assert request.start == Start(
        task="outpainting", picture="0f" * 16, strength=0.6, margins=(24, 16, 16, 16)
    )
    assert (request.width, request.height) == (104, 96)
    assert from_request(request) == extended
    with pytest.raises(InvalidRequest, match="start_strength"):
        to_request(extended | {"start_strength": None})


def test_a_second_drawing_goes_through_the_form_and_back(catalogue: Catalogue) -> None:
    fresh = defaults_of(catalogue.get_model("builtin")) | {"prompt": "a cat", "seed": "7"}
    assert to_request(fresh).second_pass is None
    twice = fresh | {"second_scale": 2, "second_strength": 0.4, "refiner": True}
    request = to_request(twice)
    assert request.second_pass == SecondPass(scale=2, strength=0.4)
    assert request.refiner
    assert from_request(request) == twice
    with pytest.raises(InvalidRequest, match="takes no `refiner`"):
        catalogue.check(request)
    catalogue.check(replace(request, refiner=False))
    with pytest.raises(InvalidRequest, match="second drawing would be 256 px"):
        catalogue.check(replace(request, refiner=False, width=128))
    with pytest.raises(InvalidRequest, match="second_strength"):
        to_request(twice | {"second_strength": None})


def test_a_model_of_square_pictures_offers_no_other_paper(catalogue: Catalogue) -> None:
    solid = catalogue.get_model("shap-e")
    assert [size.key for size in sizes.sizes_of(solid)] == ["256x256"]
    assert sizes.like(solid, 640, 480) == (256, 256)
