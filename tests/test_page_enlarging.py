"""Enlarging and seamless pictures on the page."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser import NARROW, WIDE, Site
from tests.page_fixtures import RESULT, OpenPage, ask, draw, owner_of

pytest_plugins = ["tests.page_fixtures"]

PICK = ".strip [data-event=pick]"


def width_of(page: Page) -> int:
    return int(str(page.locator(RESULT).get_attribute("width")))


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_picture_is_enlarged_into_a_new_one(
    site: Site, open_page: OpenPage, viewport: dict[str, int]
) -> None:
    visitor = open_page(viewport=viewport)
    page, name = visitor.page, viewport["width"]
    small = draw(page)
    drawn_width = width_of(page)
    visitor.shot_as_it_is(f"actions-{name}")
    site.engine.hold_at = 3
    page.click("[data-event=enlarge]")
    expect(page.locator(".numbers")).to_contain_text("Enlarging, 2 of 4 parts done")
    expect(page.locator("#live img")).to_be_visible()
    visitor.shot_as_it_is(f"enlarging-{name}")
    site.engine.hold_at = None
    expect(page.locator(PICK)).to_have_count(2)
    expect(page.locator(RESULT)).not_to_have_attribute("src", small)
    assert width_of(page) == 4 * drawn_width
    page.click("#details summary")
    expect(page.locator("#details")).to_contain_text("from a picture of 256 × 256 px")


def test_a_picture_that_is_drawn_large_counts_its_parts_after_its_steps(
    site: Site, open_page: OpenPage
) -> None:
    visitor = open_page()
    page = visitor.page
    site.engine.hold_at = 20 + 3
    ask(page)
    expect(page.locator(".numbers")).to_contain_text("Enlarging, 2 of 4 parts done")
    assert page.locator("#progress progress").evaluate("bar => bar.position") == 0.5
    expect(page.locator("#live img.preview")).to_be_visible()
    site.engine.hold_at = 20 + 4
    expect(page.locator(".numbers")).to_contain_text("Enlarging, 3 of 4 parts done")
    site.engine.hold_at = None
    expect(page.locator(RESULT)).to_be_visible()
    expect(page.locator("#live .sheet")).to_have_count(0)


def test_a_stopped_enlargement_can_be_had_after_all(site: Site, open_page: OpenPage) -> None:
    page = open_page().page
    draw(page)
    site.engine.hold_at = 2
    page.click("[data-event=enlarge]")
    expect(page.locator(".numbers")).to_contain_text("1 of 4")
    page.click("#stop")
    expect(page.locator(".sheet.stopped")).to_be_visible()
    site.engine.hold_at = None
    page.click("text=Enlarge it after all")
    expect(page.locator(PICK)).to_have_count(2)


def test_a_picture_too_large_to_be_enlarged_is_refused_in_words(open_page: OpenPage) -> None:
    page = open_page().page
    draw(page)
    for expected in (2, 3):
        page.click("[data-event=enlarge]")
        expect(page.locator(PICK)).to_have_count(expected)
        expect(page.locator("#live .sheet")).to_have_count(0)
    page.click("[data-event=enlarge]")
    expect(page.locator("#notice [role=alert]")).to_contain_text("a picture has at most 4096 px")
    expect(page.locator(PICK)).to_have_count(3)


def test_seamless_reaches_the_request_and_comes_back(site: Site, open_page: OpenPage) -> None:
    visitor = open_page()
    page = visitor.page
    page.click("#more-button")
    page.click("#tiling label:has-text('Up and down')")
    visitor.shot_as_it_is("seamless", full_page=True)
    draw(page)
    [job] = site.studio.jobs(owner_of(page))
    assert job.request.tiling == "y"
    page.click("#tiling label:has-text('Off')")
    page.click("[data-event=use]")
    expect(page.locator("#tiling label.selected")).to_have_text("Up and down")
    page.reload()
    page.click("#more-button")
    expect(page.locator("#tiling label.selected")).to_have_text("Up and down")
