"""Drawing while the visitor types: a real browser, the real engine, the built-in model."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from pipelines.device import pick_budget
from pipelines.engine import Engine
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from studio.studio import Studio
from tests.browser import NARROW, Site, serve
from tests.page_fixtures import RESULT, OpenPage, owner_of

pytest_plugins = ["tests.page_fixtures"]

SKETCH = "#sketch img"


def build_real_engine(studio: Studio) -> Engine:
    settings = studio.settings
    loader, budget = Loader(settings), pick_budget("cpu", settings)
    manager = PipelineManager(studio.catalogue, loader, budget, studio.set_model_state)
    engine = Engine(studio, manager, settings)
    engine.start()
    engine.warm("builtin-fast")
    return engine


@pytest.fixture(scope="module")
def running_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serve(tmp_path_factory.mktemp("data"), build_engine=build_real_engine) as site:
        yield site


@pytest.fixture
def site(running_site: Site) -> Site:
    return running_site


def switch_on(page: Page) -> None:
    page.check("#live-switch input")
    expect(page.locator("#live-note")).to_contain_text("Croquis Mini Fast sketches as you write")


def shown_seed(page: Page) -> str:
    found = re.search(r"seed (\d+)", page.locator("#sketch-line").text_content() or "")
    assert found is not None
    return found[1]


def type_words(page: Page, words: str) -> str:
    """Type on at the end, wait for the sketch of all that was typed, and return its address."""
    page.press("#prompt textarea", "End")
    page.locator("#prompt textarea").press_sequentially(words, delay=60)
    typed = page.input_value("#prompt textarea").strip()
    expect(page.locator(SKETCH)).to_have_attribute("alt", f"Sketch: {typed}")
    return str(page.locator(SKETCH).get_attribute("src"))


def test_sketches_follow_the_words_and_one_is_kept(open_page: OpenPage, site: Site) -> None:
    visitor = open_page()
    page = visitor.page
    switch_on(page)
    first = type_words(page, "a red castle")
    seed = shown_seed(page)
    assert type_words(page, " in the snow") != first
    assert shown_seed(page) == seed  # words change the picture, chance does not
    visitor.shot("live")
    found = Axe().run(page).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
    assert site.studio.pictures(owner_of(page)) == [] == site.studio.jobs(owner_of(page))
    page.click("#sketch-line [data-event=keep]")
    expect(page.locator(RESULT)).to_be_visible()
    expect(page.locator(SKETCH)).to_be_hidden()
    [kept] = site.studio.pictures(owner_of(page))
    request = kept.recipe.request
    assert (request.model, request.prompt) == ("builtin-fast", "a red castle in the snow")
    assert str(request.seed) == seed


def test_create_draws_what_is_sketched_with_the_chosen_model(
    open_page: OpenPage, site: Site
) -> None:
    page = open_page().page
    switch_on(page)
    type_words(page, "a blue cup")
    seed = shown_seed(page)
    page.click("#create")
    expect(page.locator(SKETCH)).to_be_hidden()
    expect(page.locator(RESULT)).to_be_visible()
    [kept] = site.studio.pictures(owner_of(page))
    assert (kept.recipe.request.model, kept.recipe.request.seed) == ("builtin", int(seed))
    type_words(page, " on a table")  # the switch is still on
    page.uncheck("#live-switch input")
    expect(page.locator(SKETCH)).to_be_hidden()
    expect(page.locator(RESULT)).to_be_visible()
    expect(page.locator("#live-note p")).to_have_count(0)


def test_by_keyboard_on_a_narrow_page(open_page: OpenPage) -> None:
    visitor = open_page(viewport=NARROW)
    page = visitor.page
    page.focus("#live-switch input")
    page.keyboard.press("Space")
    type_words(page, "a green tree")
    visitor.shot("live-narrow")
    wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert not wide
    page.focus("#sketch-line [data-event=keep]")
    page.keyboard.press("Enter")
    expect(page.locator(RESULT)).to_be_visible()


def test_what_cannot_be_sketched_is_said_and_the_form_stays(open_page: OpenPage) -> None:
    page = open_page().page
    switch_on(page)
    type_words(page, "a red hat")
    page.click("#more-button")
    page.fill("#seed input", "-5")
    page.press("#seed input", "Tab")
    expect(page.locator("#live-note .refused")).to_contain_text("No sketch:")
    expect(page.locator(SKETCH)).to_be_hidden()
    expect(page.locator("#prompt textarea")).to_have_value("a red hat")
    page.fill("#seed input", "5")
    page.press("#seed input", "Tab")
    expect(page.locator(SKETCH)).to_be_visible()
    assert shown_seed(page) == "5"
