"""The choice among many models, with a keyboard and on a phone."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser import NARROW, WIDE
from tests.page_fixtures import OpenPage

pytest_plugins = ["tests.page_fixtures"]


@pytest.mark.parametrize("viewport", [NARROW, WIDE], ids=["phone", "desk"])
def test_typing_finds_a_model_and_its_line_says_who_may_use_it(
    open_page: OpenPage, viewport: dict[str, int]
) -> None:
    visitor = open_page(viewport=viewport)
    page = visitor.page
    page.click("#model input")
    options = page.locator("[role=option]")
    assert options.count() >= 35
    visitor.shot_as_it_is(f"models-{viewport['width']}")
    page.keyboard.type("krea")
    expect(options).to_have_count(1, timeout=20_000)
    page.keyboard.press("Enter")
    expect(page.locator("#model input")).to_have_value("FLUX.1 Krea dev")
    line = page.locator("#model-line")
    expect(line).to_contain_text("non-commercial")
    expect(line).to_contain_text("asks for a token and an accepted licence")
    expect(line).to_contain_text("download about 34 GB")
    visitor.shot_as_it_is(f"model-line-{viewport['width']}")
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_what_is_no_model_leaves_the_choice_as_it_was(open_page: OpenPage) -> None:
    page = open_page().page
    page.click("#model input")
    page.keyboard.type("a house")
    expect(page.locator("[role=option]")).to_have_count(0)
    page.keyboard.press("Tab")
    expect(page.locator("#model input")).to_have_value("Croquis Mini")
