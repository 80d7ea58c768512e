"""Pictures on the page: walking, deleting, using them again; settings that come and go."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect

from tests.browser import NARROW, Site
from tests.page_fixtures import PROMPT, RESULT, OpenPage, ask, draw, hold, owner_of

pytest_plugins = ["tests.page_fixtures"]


def test_several_pictures_and_walking_through_them(open_page: OpenPage) -> None:
    visitor = open_page()
    page = visitor.page
    page.click("#more-button")
    page.fill("#num-images input", "4")
    page.click("#more-button")
    ask(page)
    expect(page.locator(".contact img")).to_have_count(4)
    expect(page.locator(".strip [data-event=pick]")).to_have_count(4)
    visitor.shot("several")
    page.click(".contact button >> nth=1")
    expect(page.locator(RESULT)).to_be_visible()
    page.locator("#create").focus()
    before = page.locator(RESULT).get_attribute("src")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(RESULT)).not_to_have_attribute("src", str(before))
    page.keyboard.press("ArrowRight")
    expect(page.locator(RESULT)).to_have_attribute("src", str(before))
    expect(page.locator(".strip [aria-current]")).to_have_count(1)


def test_browsing_is_not_interrupted_by_a_run(site: Site, open_page: OpenPage) -> None:
    visitor = open_page()
    page = visitor.page
    old = draw(page)
    hold(site, page, 5)
    page.click(".strip [data-event=pick] >> nth=0")
    expect(page.locator("#live")).not_to_be_visible()
    visitor.shot("browsing")
    site.engine.hold_at = None
    expect(page.locator(".strip [data-event=pick]")).to_have_count(2)
    expect(page.locator(RESULT)).to_have_attribute("src", old)


def test_watching_again_after_browsing(site: Site, open_page: OpenPage) -> None:
    page = open_page().page
    draw(page)
    hold(site, page, 5)
    page.click(".strip [data-event=pick] >> nth=0")
    page.click("text=Watch it")
    expect(page.locator("#live img")).to_be_visible()
    page.keyboard.press("Escape")


def test_delete_can_be_undone(open_page: OpenPage) -> None:
    page = open_page().page
    kept = draw(page)
    gone = draw(page)
    page.click("#actions >> text=Delete")
    expect(page.locator(RESULT)).to_have_attribute("src", kept)
    expect(page.locator(".strip [data-event=pick]")).to_have_count(1)
    page.click("#notice >> text=Undo")
    expect(page.locator(RESULT)).to_have_attribute("src", gone)
    expect(page.locator(".strip [data-event=pick]")).to_have_count(2)


def test_seed_is_copied_and_used_again(open_page: OpenPage) -> None:
    page = open_page().page
    draw(page)
    seed = str(page.locator("[data-copy]").get_attribute("data-copy"))
    page.click("[data-copy]")
    expect(page.locator("[data-copy]")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == seed
    page.click("#more-button")
    page.click("#last-seed")
    expect(page.locator("#seed input")).to_have_value(seed)
    draw(page)
    assert page.locator("[data-copy]").get_attribute("data-copy") == seed
    page.click("#random-seed")
    expect(page.locator("#seed input")).to_have_value("")


def test_vary_draws_the_same_settings_with_a_new_seed(open_page: OpenPage) -> None:
    page = open_page().page
    draw(page)
    page.fill("#prompt textarea", "something else")
    seed = page.locator("[data-copy]").get_attribute("data-copy")
    page.click("#actions >> text=Vary")
    expect(page.locator(".strip [data-event=pick]")).to_have_count(2)
    expect(page.locator(RESULT)).to_have_attribute("alt", PROMPT)
    assert page.locator("[data-copy]").get_attribute("data-copy") != seed
    expect(page.locator("#prompt textarea")).to_have_value("something else")


def test_download_is_the_file_byte_for_byte(site: Site, open_page: OpenPage) -> None:
    page = open_page().page
    address = draw(page)
    with page.expect_download() as download:
        page.click("#actions >> text=Download")
    assert download.value.suggested_filename.startswith("a-red-house-with-a-blue-door")
    kept = next((site.studio.settings.data_dir).rglob(Path(address).name))
    assert Path(download.value.path()).read_bytes() == kept.read_bytes()


def test_details_tell_how_it_was_made(open_page: OpenPage) -> None:
    visitor = open_page()
    page = visitor.page
    draw(page)
    page.click("#details summary")
    for told in (PROMPT, "Croquis Mini", "Euler", "256 × 256 px, drawn at 64 × 64", "scripted@1"):
        expect(page.locator("#details dl")).to_contain_text(told)
    visitor.shot("details")


def test_hundreds_of_pictures_do_not_hurt(site: Site, open_page: OpenPage) -> None:
    visitor = open_page(viewport=NARROW)
    page = visitor.page
    add_pictures(site, owner_of(page), 504)
    page.reload()
    expect(page.locator(".strip [data-event=pick]")).to_have_count(60)
    assert page.locator("#strip").bounding_box()["height"] <= 120  # type: ignore[index]
    visitor.shot("many")
    for shown in range(120, 541, 60):
        page.click("#strip [data-event=more]")
        expect(page.locator(".strip [data-event=pick]")).to_have_count(min(shown, 504))
    expect(page.locator("#strip [data-event=more]")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("#strip").bounding_box()["height"] <= 120  # type: ignore[index]


def add_pictures(site: Site, owner: str, number: int) -> None:
    """Keep many pictures as an engine would, eight to a job, without waiting for steps."""
    studio = site.studio
    site.engine.pause()
    request = replace(studio.default_request("builtin", "many"), num_images=8)
    for _ in range(number // 8):
        studio.submit(request, owner)
        job = studio.take(5)
        assert job is not None
        for index in range(8):
            studio.keep(job.id, index, Image.new("RGB", (8, 8)), "scripted@1", {})
        studio.finish(job.id)
    while studio.jobs(owner, active_only=True):
        time.sleep(0.02)


def test_png_gives_its_settings_back(site: Site, open_page: OpenPage) -> None:
    maker = open_page()
    maker.page.click("#more-button")
    maker.page.fill("#steps input", "27")
    maker.page.fill("#seed input", "4242")
    maker.page.click("#size label >> text=Wide")
    with_png = site.studio.settings.data_dir.rglob(Path(draw(maker.page, "a wide lake")).name)
    visitor = open_page()
    page = visitor.page
    page.fill("#prompt textarea", "what I had")
    page.click("#more-button")
    page.set_input_files("#dropped input[type=file]", next(with_png))
    expect(page.locator("#prompt textarea")).to_have_value("a wide lake")
    expect(page.locator("#steps input")).to_have_value("27")
    expect(page.locator("#seed input")).to_have_value("4242")
    expect(page.locator("#width input")).to_have_value("96")
    expect(page.locator("#notice")).to_contain_text("Croquis")
    visitor.shot("restored")
    expect(page.locator(".strip")).to_have_count(0)
    page.click("#notice >> text=Undo")
    expect(page.locator("#prompt textarea")).to_have_value("what I had")


def test_model_changes_only_what_is_untouched(open_page: OpenPage) -> None:
    visitor = open_page()
    page = visitor.page
    page.fill("#prompt textarea", PROMPT)
    page.click("#more-button")
    page.fill("#steps input", "33")
    page.click("#model input")
    page.click("[role=option] >> text=Stable Diffusion 2")
    expect(page.locator("#width input")).to_have_value("768")
    expect(page.locator("#guidance input")).to_have_value("7.5")
    expect(page.locator("#steps input")).to_have_value("33")
    expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
    expect(page.locator("#notice")).to_contain_text("Yours stay: steps 33.")
    expect(page.locator("#model-line")).to_contain_text("download 2.6 GB")
    visitor.shot_as_it_is("model", full_page=True)
