"""Every row of the catalogue, held against the installed pipeline classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import class_checks as of_class
import pytest
import row_checks as of_row
from small_studio import make_catalogue

from studio.catalogue import Catalogue
from studio.catalogue_files import FAMILIES_TOML, tomllib
from studio.specs import ModelSpec

Check = Callable[[ModelSpec, Catalogue], Iterator[str]]

CATALOGUE = make_catalogue()
CHECKS: tuple[Check, ...] = (*of_class.CHECKS, *of_row.CHECKS)
NO_DIFFUSERS = ("min_dalle",)
"""Backends whose class is not of diffusers."""

TASK_PAGE = {
    "CompVis/stable-diffusion-v1-4": "sd14",
    "stabilityai/stable-diffusion-2": "sd2",
    "dalle-mini/dalle-mega": "dalle-mega",
    "DeepFloyd/IF-I-XL-v1.0": "if-1",
    "kakaobrain/karlo-v1-alpha": "karlo",
    "openai/shap-e": "shap-e",
    "microsoft/vq-diffusion-ithq": "vq-diffusion",
    "kandinsky-community/kandinsky-2-2-decoder": "kandinsky22",
    "stabilityai/stable-diffusion-xl-base-1.0": "sdxl",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "sd15",
}
"""Models that the Hub's text-to-image page, its Spaces, blogs and guides name, and their rows."""

WRONG: dict[tuple[Check, str], dict[str, object]] = {
    (of_class.classes_are_there, "sd2"): {"pipeline_class": "StableDiffusionFoldingPipeline"},
    (of_class.classes_are_there, "sdxl"): {"inpainting_class": "FlowMatchEulerDiscreteScheduler"},
    (of_class.it_takes_what_is_sent, "flux2-klein"): {"negative_prompt": True},
    (of_class.it_takes_what_is_sent, "qwen-image"): {"guidance_argument": "cfg"},
    (of_class.pictures_reach_it, "z-image"): {"image_to_image_class": None},
    (of_class.pictures_reach_it, "sdxl-refiner"): {"tasks": ("outpainting",)},
    (of_class.pictures_reach_it, "sd15"): {"tasks": ("text_to_song",)},
    (of_class.schedulers_fit, "flux1-dev"): {"schedulers": ("euler",)},
    (of_class.schedulers_fit, "sd2"): {"schedulers": ("scm",), "scheduler_family": "fixed"},
    (of_class.schedulers_fit, "sana-sprint"): {
        "schedulers": ("flow_euler",),
        "scheduler_family": "flow",
    },
    (of_row.steps_and_sizes_are_in_bounds, "sd-turbo"): {"max_steps": 1},
    (of_row.steps_and_sizes_are_in_bounds, "sdxl"): {"max_side": 1000},
    (of_row.steps_and_sizes_are_in_bounds, "if-1"): {"min_side": 128, "max_side": 128},
    (of_row.steps_and_sizes_are_in_bounds, "if-2"): {"max_steps": 201},
    (of_row.steps_and_sizes_are_in_bounds, "shap-e"): {"upscale_choices": (4,)},
    (of_class.negative_prompts_are_as_stated, "lcm"): {"negative_prompt": True},
    (of_class.negative_prompts_are_as_stated, "pixart-sigma"): {"negative_prompt": False},
    (of_class.guidance_is_as_stated, "z-image-turbo"): {"guidance_off": 1.0},
    (of_class.guidance_is_as_stated, "z-image"): {"guidance": "none"},
    (of_class.guidance_is_as_stated, "karlo"): {"guidance_argument": "guidance_scale"},
    (of_class.guidance_is_as_stated, "sd2"): {"guidance": "strict"},
    (of_class.callback_and_interrupt_are_as_stated, "if-1"): {"callback": "new"},
    (of_class.callback_and_interrupt_are_as_stated, "karlo"): {"callback": "legacy"},
    (of_class.callback_and_interrupt_are_as_stated, "sd2"): {"callback": "none"},
    (of_class.callback_and_interrupt_are_as_stated, "lcm"): {"interrupts": True},
    (of_class.callback_and_interrupt_are_as_stated, "sd35-medium"): {"interrupts": False},
    (of_class.adapters_are_as_stated, "pixart-sigma"): {"lora": True},
    (of_class.adapters_are_as_stated, "sd35-large"): {"lora": False},
    (of_class.adapters_are_as_stated, "z-image"): {"textual_inversion": True},
    (of_class.adapters_are_as_stated, "sd14"): {"base": "sd0"},
    (of_class.adapters_are_as_stated, "sdxl"): {"base": None},
    (of_class.prompts_are_as_stated, "sd2"): {"max_tokens": 78},
    (of_class.prompts_are_as_stated, "sana-sprint"): {"prompt_encoder": "t5"},
    (of_class.prompts_are_as_stated, "flux1-dev"): {"prompt_encoder": "clip"},
    (of_row.what_is_uncertain_is_a_field, "sd2"): {"uncertain": ("weather",)},
    (of_row.what_is_uncertain_is_a_field, "if-1"): {"uncertain": ("memory_offload_gb",)},
    (of_row.what_is_uncertain_is_a_field, "sdxl"): {"uncertain": ("gated", "gated")},
    (of_row.sources_are_well_formed, "sd2"): {"sources": ("stabilityai/stable-diffusion-2@main",)},
    (of_row.sources_are_well_formed, "builtin"): {"sources": ("assets/elsewhere/here",)},
    (of_row.sources_are_well_formed, "sdxl-lcm"): {"hub_lora": "latent-consistency/lcm-lora-sdxl"},
    (of_row.law_is_told, "sd2"): {"licence_url": "http://example.org"},
    (of_row.law_is_told, "flux1-dev"): {"commercial_use": "conditional"},
    (of_row.law_is_told, "karlo"): {"gated": "perhaps"},
    (of_row.words_are_short, "sd2"): {"summary": "Draws."},
    (of_row.words_are_short, "sdxl"): {"summary": "Photographs and paintings at 1024 px."},
    (of_row.memory_is_plausible, "sd2"): {"memory_gb": 0.0},
    (of_row.memory_is_plausible, "sdxl"): {"memory_offload_gb": 11.0},
    (of_row.memory_is_plausible, "if-2"): {"download_gb": 60.0},
    (of_row.rows_that_it_names_are_there, "sdxl"): {"refiner": "sdxl-refined"},
    (of_row.rows_that_it_names_are_there, "if-1"): {"next_stage": "sdxl"},
}
"""A check, a row, and what makes that row wrong."""


def faults_of(check: Check, row: ModelSpec, catalogue: Catalogue = CATALOGUE) -> list[str]:
    """What one check finds wrong with a row; nothing where it has no class to look at."""
    if row.backend in NO_DIFFUSERS and check in of_class.CHECKS:
        return []
    return list(check(row, catalogue))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_row_holds(check: Check) -> None:
    faults = {key: faults_of(check, row) for key, row in CATALOGUE.models.items()}
    assert {key: found for key, found in faults.items() if found} == {}


@pytest.mark.parametrize(("check", "key"), WRONG)
def test_a_wrong_row_is_found(check: Check, key: str) -> None:
    row = CATALOGUE.models[key]
    assert faults_of(check, replace(row, **WRONG[check, key]))


def test_two_rows_with_one_title_are_found() -> None:
    twins = make_catalogue()
    twins.models["twin"] = replace(twins.models["sd2"], key="twin")
    assert faults_of(of_row.words_are_short, twins.models["sd2"], twins)


def test_every_check_has_a_row_that_fails_it() -> None:
    assert {check for check, _ in WRONG} == set(CHECKS)


def test_every_family_and_every_scheduler_is_used() -> None:
    families = tomllib.loads(FAMILIES_TOML.read_text(encoding="utf-8"))
    assert {row.family for row in CATALOGUE.models.values()} == set(families)
    used = {key for row in CATALOGUE.models.values() for key in row.schedulers}
    assert used == set(CATALOGUE.schedulers)


def test_every_model_of_the_task_page_has_a_row() -> None:
    for repository, key in TASK_PAGE.items():
        row = CATALOGUE.models[key]
        assert repository in (*row.sources, row.licence_url.removeprefix("https://huggingface.co/"))


def test_a_repository_means_the_row_that_adds_nothing_to_it() -> None:
    for row in CATALOGUE.models.values():
        for source in row.sources:
            found = CATALOGUE.find_model(source.partition("@")[0])
            assert found is not None and (found.hub_lora, found.fused_lora) == (None, None), source


def test_no_two_rows_have_one_name() -> None:
    names = [name for row in CATALOGUE.models.values() for name in row.also_called]
    assert len(set(names)) == len(names)
    for name in names:
        found = CATALOGUE.find_model(name)
        assert found is not None and name in found.also_called


def test_models_that_left_their_home_have_a_mirror() -> None:
    gone = [
        row
        for row in CATALOGUE.models.values()
        if row.sources[0].startswith("stabilityai/stable-diffusion-2")
    ]
    assert len(gone) == 6
    for row in gone:
        name = row.sources[0].partition("/")[2]
        assert row.sources[1].partition("@")[0] == f"sd2-community/{name}"
