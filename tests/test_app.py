"""The real app: `python app.py` with the built-in model, in a real browser."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from lab.serving import free_port, wait_for_page
from studio.settings import ROOT
from tests.browser import Profiles, chromium, wait_ready
from tests.page_fixtures import RESULT, ask


@pytest.fixture(scope="module")
def profiles() -> Iterator[Profiles]:
    with chromium() as browser:
        yield Profiles(browser)


@pytest.fixture(scope="module")
def real_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`python app.py` on a free port with an empty data folder."""
    if not (ROOT / "assets/builtin/model_index.json").is_file():
        pytest.skip("THE BUILT-IN MODEL IS NOT THERE YET: the real app was not tested")
    port = free_port()
    env = os.environ | {
        "CROQUIS_PORT": str(port),
        "CROQUIS_DATA_DIR": str(tmp_path_factory.mktemp("real")),
        "HF_HUB_OFFLINE": "1",
    }
    app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=env)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for_page(url, app)
        yield url
    finally:
        app.send_signal(signal.SIGINT)
        app.wait(60)


def test_real_app_draws_stops_and_finds_again(real_app: str, profiles: Profiles) -> None:
    visitor = profiles.visit(real_app)
    page = visitor.page
    slow = 120_000
    # So much to draw that it is not over before a slow machine has the page again.
    page.click("#more-button")
    page.fill("#steps input", "200")
    page.fill("#num-images input", "8")
    page.click("#more-button")
    ask(page)
    preview = page.locator("#live img")
    expect(preview).to_be_visible(timeout=slow)
    first = preview.get_attribute("src")
    expect(preview).not_to_have_attribute("src", str(first), timeout=slow)
    visitor.shot("real-drawing")
    page.reload()
    wait_ready(page)
    expect(page.locator(".numbers")).to_contain_text("of 200", timeout=slow)
    page.keyboard.press("Escape")
    expect(page.locator(".sheet.stopped")).to_be_visible(timeout=slow)
    page.click("#more-button")
    page.fill("#steps input", "20")
    page.fill("#num-images input", "1")
    page.click("#more-button")
    page.keyboard.press("Control+Enter")
    expect(page.locator(RESULT)).to_be_visible(timeout=slow)
    expect(page.locator("#live .sheet")).to_have_count(0)
    assert page.locator(RESULT).evaluate("image => image.naturalWidth") == 256
    visitor.shot("real-done")
    profiles.leave(visitor)
    assert visitor.complaints == []
