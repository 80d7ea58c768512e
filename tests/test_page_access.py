"""Keys, reading aloud, contrast, large text and less motion."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser import NARROW, WIDE, Site
from tests.page_fixtures import PROMPT, RESULT, OpenPage, draw, hold

pytest_plugins = ["tests.page_fixtures"]

TEXTS = ("#prompt textarea", "#create", "#model input", "#actions .quiet", "#steps input")
CUT_OFF = """() => [...document.querySelectorAll(
  'button, label span, .info-text, .notice p, #model-line p, #details dd')]
  .filter((one) => one.offsetParent && one.scrollWidth > one.clientWidth + 1
    && getComputedStyle(one).display !== 'inline' && !one.closest('.strip, .sr-only'))
  .map((one) => `${one.tagName} ${one.id} ${one.className} ${one.textContent.slice(0, 40)}`)"""
MOVING = """() => [...document.querySelectorAll('body *')].filter((one) => {
  const style = getComputedStyle(one);
  return style.transitionDuration.split(', ').some((time) => parseFloat(time) > 0)
    || style.animationName !== 'none';
}).map((one) => one.outerHTML.slice(0, 80))"""


def test_keyboard_alone_is_enough(open_page: OpenPage) -> None:
    visitor = open_page()
    page = visitor.page
    page.keyboard.type(PROMPT)
    page.keyboard.press("Tab")
    expect(page.locator("#create")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(RESULT)).to_be_visible()
    expect(page.locator("#stop")).to_be_disabled()
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(" ".join(page.evaluate("document.activeElement.textContent").split())[:12])
        outline = page.evaluate(
            "getComputedStyle(document.activeElement).outlineStyle"
            " + getComputedStyle(document.activeElement).boxShadow"
        )
        where = page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        assert where.startswith("<body") or outline != "nonenone", where
    assert {"Use settings", "Vary", "Download", "Delete"} <= seen


def test_question_mark_lists_the_keys(open_page: OpenPage) -> None:
    visitor = open_page()
    page = visitor.page
    page.keyboard.type("?")
    expect(page.locator("#keys")).not_to_be_visible()
    expect(page.locator("#prompt textarea")).to_have_value("?")
    page.locator("#create").focus()
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_contain_text("Ctrl or Cmd + Enter")
    visitor.shot("keys")
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).not_to_be_visible()


def test_progress_is_read_aloud_politely(site: Site, open_page: OpenPage) -> None:
    page = open_page().page
    hold(site, page, 9)
    expect(page.locator("#voice")).to_contain_text("of 20")
    site.engine.hold_at = None
    expect(page.locator("#voice")).to_have_text("The picture is there")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(open_page: OpenPage, dark: bool) -> None:
    visitor = open_page(dark=dark)
    page = visitor.page
    problems = serious(page)
    draw(page)
    page.click("#details summary")
    page.click("#more-button")
    expect(page.locator("#dropped")).to_be_visible()
    for viewport in (NARROW, WIDE):
        page.set_viewport_size(viewport)
        name = f"more-{viewport['width']}{'-dark' if dark else ''}"
        visitor.shot_as_it_is(name, full_page=True)
        problems += serious(page)
    page.fill("#prompt textarea", "")
    page.click("#create")
    expect(page.locator("#notice [role=alert]")).to_be_visible()
    problems += serious(page)
    assert problems == []


def test_text_of_twice_the_size_still_fits(open_page: OpenPage) -> None:
    visitor = open_page()
    page = visitor.page
    draw(page)
    page.click("#more-button")
    expect(page.locator("#dropped")).to_be_visible()
    before = {part: text_height(page, part) for part in TEXTS}
    page.add_style_tag(content="html { font-size: 200% }")
    page.click("#details summary")
    assert {part: text_height(page, part) for part in TEXTS} == {
        part: pytest.approx(2 * height, abs=1) for part, height in before.items()
    }
    visitor.shot("text-200")
    for viewport in (WIDE, NARROW):
        page.set_viewport_size(viewport)
        assert page.evaluate(CUT_OFF) == []


def test_less_motion_is_no_motion(open_page: OpenPage, site: Site) -> None:
    page = open_page().page
    page.emulate_media(reduced_motion="reduce")
    hold(site, page, 5)
    assert page.evaluate(MOVING) == []
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(MOVING) != []


def text_height(page: Page, selector: str) -> float:
    return float(
        page.locator(selector).first.evaluate("one => parseFloat(getComputedStyle(one).fontSize)")
    )


def serious(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes']]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
