"""DeepFloyd IF in a browser, drawn by tiny weights of its real classes: four, pick one, enlarge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tiny_families.cascade_house import make_manager, make_settings

from pipelines.engine import Engine
from tests.browser import Site
from tests.page_fixtures import RESULT, OpenPage, ask, owner_of

pytest_plugins = ["tests.page_fixtures"]

STAGES = {"if-1": "ddpm", "if-2": "ddpm", "sd-x4-upscaler": "ddim"}


@pytest.fixture
def drawing_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The server with the real engine; each stage takes two steps by itself."""
    models = site.studio.catalogue.models
    for key, scheduler in STAGES.items():
        row = models[key]
        quick = replace(row.defaults, scheduler=scheduler, num_inference_steps=2)
        monkeypatch.setitem(models, key, replace(row, defaults=quick, min_steps=1))
    site.engine.pause()
    engine = Engine(site.studio, make_manager(), make_settings())
    engine.start()
    yield site
    engine.close()


def test_four_are_drawn_one_is_picked_and_two_stages_enlarge_it(
    drawing_site: Site, open_page: OpenPage
) -> None:
    visitor = open_page()
    page = visitor.page
    page.click("#model input")
    page.keyboard.type("DeepFloyd IF, stage 1")
    page.locator("[role=option]").first.click()
    page.click("#more-button")
    expect(page.locator("#width input")).to_have_value("64")
    page.fill("#num-images input", "4")
    page.click("#more-button")
    ask(page, "a sign that says open")
    small = page.locator(".sheet.several [data-event=pick]")
    expect(small).to_have_count(4)
    visitor.shot("if-four")
    small.nth(2).click()
    stage = page.locator("#actions [data-event=stage]")
    expect(stage).to_contain_text("stage 2")
    picked = Path(str(page.locator(RESULT).get_attribute("src"))).stem
    stage.click()
    expect(stage).to_contain_text("x4 upscaler")
    visitor.shot("if-second")
    stage.click()
    expect(stage).to_have_count(0)
    visitor.shot("if-third")
    pictures = drawing_site.studio.pictures(owner_of(page))
    assert [picture.width for picture in pictures] == [1024, 256, 64, 64, 64, 64]
    assert [picture.recipe.request.model for picture in pictures] == [
        "sd-x4-upscaler",
        "if-2",
        *["if-1"] * 4,
    ]
    assert pictures[1].recipe.parent_id == picked
    assert pictures[0].recipe.parent_id == pictures[1].id
