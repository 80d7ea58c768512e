"""Fixtures and gestures for the tests of the page in a browser.

A module gets them by `pytest_plugins`; browser and server are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from api.visitor import COOKIE, owner_of_token
from tests.browser import SLOWEST_MS, Profiles, Site, Visitor, chromium, serve

PROMPT = "a red house with a blue door on a green hill"
RESULT = ".sheet.picture img"
OpenPage = Callable[..., Visitor]
expect.set_options(timeout=SLOWEST_MS)


@pytest.fixture(scope="module")
def profiles() -> Iterator[Profiles]:
    with chromium() as browser:
        yield Profiles(browser)


@pytest.fixture(scope="module")
def running_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serve(tmp_path_factory.mktemp("data")) as site:
        yield site


@pytest.fixture
def site(running_site: Site) -> Iterator[Site]:
    """The server with an engine that draws at once."""
    engine = running_site.engine
    engine.step_s, engine.load_s, engine.error, engine.note = 0.005, 0.0, None, ""
    engine.attachments = {}
    yield running_site
    engine.hold_at = None
    engine.paused.clear()


@pytest.fixture
def open_page(site: Site, profiles: Profiles) -> Iterator[OpenPage]:
    """Open the page as a new visitor; at the end, nothing may have gone wrong in it."""
    opened: list[Visitor] = []

    def open_as_new_visitor(**how: object) -> Visitor:
        opened.append(profiles.visit(site.url, **how))  # type: ignore[arg-type]
        return opened[-1]

    yield open_as_new_visitor
    for visitor in opened:
        profiles.leave(visitor)
    complaints = [text for visitor in opened for text in visitor.complaints]
    assert complaints == [], "\n".join(complaints)


def ask(page: Page, prompt: str = PROMPT) -> None:
    page.fill("#prompt textarea", prompt)
    page.click("#create")


def draw(page: Page, prompt: str = PROMPT) -> str:
    """Draw one picture, wait for it, and return its address."""
    before = page.locator(".strip [data-event=pick]").count()
    ask(page, prompt)
    expect(page.locator(".strip [data-event=pick]")).to_have_count(before + 1)
    expect(page.locator("#live .sheet")).to_have_count(0)
    return str(page.locator(RESULT).get_attribute("src"))


def hold(site: Site, page: Page, step: int) -> None:
    """Start a run and wait until it stands before a step, with its preview shown."""
    site.engine.hold_at = step
    ask(page)
    expect(page.locator(".numbers")).to_contain_text(f"tep {step - 1} of 20")


def owner_of(page: Page) -> str:
    cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
    return owner_of_token(cookies[COOKIE])
