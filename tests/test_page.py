"""The page in a real browser, over a scripted engine: from a prompt to a picture."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser import NARROW, WIDE, Site
from tests.page_fixtures import PROMPT, RESULT, OpenPage, ask, draw, hold

pytest_plugins = ["tests.page_fixtures"]

# Whether the button is marked before its click is over: no later, however busy the machine is.
IS_HEARD = """(selector) => {
  const button = document.querySelector(selector);
  button.click();
  return button.hasAttribute('data-heard');
}"""


def is_within(page: Page, selector: str, viewport: dict[str, int]) -> bool:
    box = page.locator(selector).bounding_box()
    return box is not None and box["y"] >= 0 and box["y"] + box["height"] <= viewport["height"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_first_visit_is_ready_to_type(open_page: OpenPage, dark: bool) -> None:
    visitor = open_page(dark=dark)
    page = visitor.page
    prompt = page.locator("#prompt textarea")
    expect(prompt).to_be_focused()
    expect(prompt).to_have_value("")
    assert len(str(prompt.get_attribute("placeholder"))) > 20
    expect(page.locator("#stop")).to_be_disabled()
    expect(page.locator("footer")).not_to_be_visible()
    visitor.shot(f"first-visit{'-dark' if dark else ''}")
    for viewport in (WIDE, NARROW):
        page.set_viewport_size(viewport)
        for needed in ("#prompt", "#create", "#stop", "#model", "#model-line", "#more-button"):
            assert is_within(page, needed, viewport), needed


def test_one_click_on_an_example_draws(open_page: OpenPage) -> None:
    visitor = open_page()
    visitor.page.click("#examples .example >> nth=0")
    expect(visitor.page.locator(RESULT)).to_be_visible()
    expect(visitor.page.locator("#prompt textarea")).not_to_have_value("")


def test_example_gives_back_a_typed_prompt(open_page: OpenPage) -> None:
    page = open_page().page
    page.fill("#prompt textarea", "my own words")
    page.click("#examples .example >> nth=1")
    page.click("#notice >> text=Undo")
    expect(page.locator("#prompt textarea")).to_have_value("my own words")


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["1280", "390"])
def test_preview_moves_and_picture_arrives_without_a_jump(
    site: Site, open_page: OpenPage, viewport: dict[str, int]
) -> None:
    visitor = open_page(viewport=viewport)
    page = visitor.page
    places = [page.locator("#stage").bounding_box()]
    hold(site, page, 12)
    preview = page.locator("#live img")
    first = preview.get_attribute("src")
    places.append(page.locator("#stage").bounding_box())
    visitor.shot_as_it_is(f"drawing-{viewport['width']}")
    site.engine.hold_at = 16
    expect(page.locator(".numbers")).to_contain_text("tep 15 of 20")
    expect(preview).not_to_have_attribute("src", str(first))
    site.engine.hold_at = None
    expect(page.locator(RESULT)).to_have_attribute("alt", PROMPT)
    expect(page.locator("#live .sheet")).to_have_count(0)
    places.append(page.locator("#stage").bounding_box())
    visitor.shot_as_it_is(f"done-{viewport['width']}")
    assert places[0] == places[1] == places[2]
    assert page.locator(RESULT).evaluate("image => image.naturalWidth") == 256
    expect(page.locator("[data-copy]")).to_have_text(re.compile(r"Seed\s\d+"))
    expect(page.locator("#stop")).to_be_disabled()


def test_second_run_says_how_long(site: Site, open_page: OpenPage) -> None:
    page = open_page().page
    site.engine.step_s = 0.1
    draw(page)
    hold(site, page, 12)
    expect(page.locator(".numbers")).to_have_text(re.compile(r"Step 11 of 20, \d+(\.\d)? s left"))
    page.keyboard.press("Escape")


def test_loading_says_what_and_how_much(site: Site, open_page: OpenPage) -> None:
    visitor = open_page()
    site.engine.load_s = 30
    ask(visitor.page)
    expect(visitor.page.locator("#live h2")).to_have_text("Loading Stable Diffusion 2, 2.6 GB")
    visitor.shot("loading")
    visitor.page.click("#stop")
    expect(visitor.page.locator(".sheet.stopped")).to_be_visible()


def test_queue_shows_the_place_and_takes_more(site: Site, open_page: OpenPage) -> None:
    site.engine.pause()
    other = open_page()
    ask(other.page)
    expect(other.page.locator(".numbers")).to_contain_text("Next in line")
    visitor = open_page()
    page = visitor.page
    ask(page)
    expect(page.locator(".numbers")).to_contain_text("2nd in line")
    page.click("#create")
    expect(page.locator(".numbers")).to_contain_text("1 more waiting")
    visitor.shot("queued")
    site.engine.paused.clear()
    expect(page.locator(".strip [data-event=pick]")).to_have_count(2)
    expect(other.page.locator(".strip [data-event=pick]")).to_have_count(1)


def test_three_quick_clicks_draw_three(open_page: OpenPage) -> None:
    page = open_page().page
    page.fill("#prompt textarea", PROMPT)
    for _ in range(3):
        page.keyboard.press("Control+Enter")
    expect(page.locator(".strip [data-event=pick]")).to_have_count(3)
    expect(page.locator("#stop")).to_be_disabled()


def test_stop_all_empties_the_line(site: Site, open_page: OpenPage) -> None:
    page = open_page().page
    hold(site, page, 3)
    page.click("#create")
    page.click("text=Stop all")
    expect(page.locator(".sheet.stopped")).to_be_visible()
    expect(page.locator("#stop")).to_be_disabled()
    expect(page.locator("#progress .progress")).to_have_count(0)


@pytest.mark.parametrize("how", ["button", "Escape"])
def test_stop_stops(site: Site, open_page: OpenPage, how: str) -> None:
    visitor = open_page()
    page = visitor.page
    hold(site, page, 6)
    if how == "button":
        page.click("#stop")
    else:
        page.keyboard.press("Escape")
    expect(page.locator(".sheet.stopped h2")).to_have_text("Stopped")
    expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
    visitor.shot("stopped")
    site.engine.hold_at = None
    page.click("text=Draw it after all")
    expect(page.locator(RESULT)).to_be_visible()


@pytest.mark.parametrize(
    "prompt",
    ["בית אדום עם דלת כחולה", "a 🦊 under a 🌈, 👩‍👩‍👧 near"],
    ids=["hebrew", "emoji"],
)
def test_prompt_of_any_script_comes_back_whole(open_page: OpenPage, prompt: str) -> None:
    page = open_page().page
    draw(page, prompt)
    expect(page.locator(RESULT)).to_have_attribute("alt", prompt)
    box = page.locator("#prompt textarea")
    expect(box).to_have_value(prompt)
    assert box.evaluate("box => getComputedStyle(box).unicodeBidi") == "plaintext"
    page.click("#details summary")
    expect(page.locator("#details dd >> nth=0")).to_have_text(prompt)


def test_every_click_is_heard_at_once_however_slow_the_server(open_page: OpenPage) -> None:
    page = open_page().page
    draw(page)
    page.click("#more-button")
    expect(page.locator("#last-seed")).to_be_visible()
    page.route("**/gradio_api/run/**", lambda route: None)
    for button in ("#create", "#last-seed", "[data-event=use]", "[data-event=vary]"):
        assert page.evaluate(IS_HEARD, button), button
        expect(page.locator(button)).to_have_css("opacity", "0.5")
    page.unroute("**/gradio_api/run/**")


def test_mark_of_a_click_goes_with_the_answer(open_page: OpenPage) -> None:
    page = open_page().page
    draw(page)
    expect(page.locator("[data-heard]")).to_have_count(0)
