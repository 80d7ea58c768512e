"""The line under the choice of model tells who may use it, and marks what is not confirmed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from small_studio import make_catalogue

from studio.catalogue import Availability
from studio.settings import Settings
from ui.model_line import render_model

CATALOGUE = make_catalogue()
NEEDED = Availability(state="download", label="download 9 GB")
THERE = Availability(state="local", label="on disk", note="about 3 s")


def line_of(key: str, availability: Availability = NEEDED, **changes: object) -> str:
    """The text of a row's line, without its marks."""
    row = replace(CATALOGUE.get_model(key), **changes)
    return re.sub(r"<[^>]+>", "", render_model(row, availability))


@pytest.mark.parametrize("key", CATALOGUE.models)
def test_every_line_says_what_it_is_good_at_and_where_it_stands(key: str) -> None:
    row = CATALOGUE.get_model(key)
    line = line_of(key)
    for text in (row.summary, row.licence, f"{row.memory_gb:g} GB of memory", NEEDED.label):
        assert text in line
    assert f'href="{row.licence_url}"' in render_model(row, NEEDED)


def test_a_non_commercial_licence_is_said_plainly() -> None:
    for key, row in CATALOGUE.models.items():
        assert ("non-commercial," in line_of(key)) == (row.commercial_use == "no")
    assert "use under conditions" in line_of("sd2")
    assert "commercial use unknown" in line_of("sd2", commercial_use="unknown")


def test_a_gated_model_says_what_it_asks_for_until_it_is_here() -> None:
    assert "asks for a token and an accepted licence" in line_of("flux1-dev")
    assert "may ask for a token" in line_of("flux2-klein")
    assert "token" not in line_of("flux1-dev", THERE)
    assert "token" not in line_of("sdxl")


def test_what_is_not_confirmed_is_marked() -> None:
    assert "about 10 GB of memory" in line_of("sdxl")
    assert ", 10 GB of memory" in line_of("sdxl", uncertain=("refiner",))
    assert line_of("karlo").endswith("Not confirmed: address.")
    assert line_of("sd-turbo").endswith("Not confirmed: licence, commercial use.")
    assert "confirmed" not in line_of("sd2")
    label = CATALOGUE.availability("karlo").label
    assert label == f"download about {CATALOGUE.get_model('karlo').download_gb:g} GB"


def test_a_row_of_a_provider_names_no_memory() -> None:
    hosted = make_catalogue(Settings(provider="auto"))
    row = hosted.get_model("sdxl-hosted")
    line = render_model(row, hosted.availability("sdxl-hosted"))
    assert "GB of memory" not in line
    assert "Not confirmed: that a provider offers it." in line


def test_experiments_are_called_so_and_marks_are_escaped() -> None:
    assert "experimental" in line_of("vq-diffusion")
    assert "experimental" not in line_of("sd2")
    row = replace(CATALOGUE.get_model("sd2"), licence="<b>", licence_url='https://x/"y')
    assert '&quot;y" target' in render_model(row, THERE)
    assert "&lt;b&gt;" in render_model(row, THERE)
