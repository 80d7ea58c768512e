"""The prompt on the page: how long it is, and what its brackets mean."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser import Site
from tests.page_fixtures import OpenPage, draw, owner_of

pytest_plugins = ["tests.page_fixtures"]

FULL = "red " * 30


def test_the_count_follows_the_prompt(open_page: OpenPage) -> None:
    page = open_page().page
    count, heard = page.locator("#prompt-count"), page.locator("#prompt-cut")
    expect(count).to_have_text("")
    before = page.locator("#create").bounding_box()
    page.fill("#prompt textarea", "a ((red)) house, [a tree:0.5]")
    expect(count).to_have_text("6 of 30 word parts")
    assert page.locator("#create").bounding_box() == before
    page.fill("#prompt textarea", f"{FULL} house")
    expect(count).to_have_text("31 word parts, read in pieces of 30")
    expect(heard).to_have_text("")
    page.click("#more-button")
    page.click("#syntax label:has-text('Are text')")
    expect(count).to_have_text("31 of 30 word parts: the end is left out")
    expect(heard).to_have_text("The prompt is too long: this model reads 30 word parts of it.")
    page.fill("#prompt textarea", FULL)
    expect(count).to_have_text("30 of 30 word parts")
    expect(heard).to_have_text("")
    page.fill("#prompt textarea", " ")
    expect(count).to_have_text("")


def test_one_question_after_a_burst_of_keys(open_page: OpenPage) -> None:
    page = open_page().page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator("#prompt textarea").press_sequentially("a red house on a hill", delay=5)
    expect(page.locator("#prompt-count")).to_have_text("6 of 30 word parts")
    assert 1 <= len([url for url in asked if url.endswith("/count")]) <= 3


def test_a_model_that_is_not_here_has_no_count(open_page: OpenPage) -> None:
    page = open_page().page
    page.fill("#prompt textarea", "a house")
    expect(page.locator("#prompt-count")).to_have_text("2 of 30 word parts")
    page.click("#model input")
    page.click("[role=option]:has-text('Stable Diffusion 1.5') >> nth=0")
    expect(page.locator("#prompt-count")).to_have_text("")


def test_brackets_weigh_unless_they_are_text(site: Site, open_page: OpenPage) -> None:
    page = open_page().page
    draw(page, "a ((red)) fox")
    page.click("#more-button")
    page.click("#syntax label:has-text('Are text')")
    draw(page, "a ((red)) hen")
    page.reload()
    expect(page.locator("#prompt textarea")).to_have_value("a ((red)) hen")
    page.click("#more-button")
    expect(page.locator("#syntax label.selected")).to_have_text("Are text")
    kept = {job.request.prompt: job.request for job in site.studio.jobs(owner_of(page))}
    assert kept["a ((red)) fox"].prompt_syntax == "a1111"
    assert kept["a ((red)) hen"].prompt_syntax == "plain"
