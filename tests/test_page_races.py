"""What a visitor types or chooses while an answer is on its way: no answer ever replaces it.

Every test makes its race certain: the answers are held back until the visitor is done.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from playwright.sync_api import Page, Route, expect

from studio.jobs import Job, JobState
from studio.studio import Studio
from tests.browser import Site
from tests.page_fixtures import PROMPT, RESULT, OpenPage, draw, hold, owner_of
from ui import watch
from ui.blocks import build_blocks
from ui.form import FIELDS

pytest_plugins = ["tests.page_fixtures"]

QUESTIONS = "**/gradio_api/run/**"
HOLD_FRAMES = """() => {
  window.heldFrames = [];
  window.nextFrame = window.requestAnimationFrame;
  window.requestAnimationFrame = (callback) => window.heldFrames.push(callback);
}"""
RELEASE_FRAMES = """() => new Promise((done) => {
  window.requestAnimationFrame = window.nextFrame;
  window.heldFrames.forEach((callback) => requestAnimationFrame(callback));
  setTimeout(done, 500);
})"""


@contextmanager
def answers_held(page: Page, number: int = 1) -> Iterator[None]:
    """Keep the questions of the page from the server; at the end, let it answer them.

    `number` of them must have left the page by then, so that they carry the older state.
    """
    held: list[Route] = []
    page.route(QUESTIONS, lambda route: held.append(route))
    yield
    for _ in range(400):
        if len(held) >= number:
            break
        page.wait_for_timeout(50)
    assert len(held) >= number
    while held:
        with page.expect_response(QUESTIONS):
            held.pop(0).continue_()
    page.unroute(QUESTIONS)
    page.wait_for_timeout(500)


def open_more(page: Page) -> None:
    """Open More as a click does, without waiting for the page to come to rest."""
    page.evaluate("document.querySelector('#more button').click()")


def expect_fields(page: Page, **values: str) -> None:
    for field, value in values.items():
        box = page.locator(f"#{field} :is(input, textarea)")
        expect(box).to_have_value(value)


def test_what_is_typed_as_more_opens_stays(open_page: OpenPage) -> None:
    page = open_page().page
    page.evaluate(HOLD_FRAMES)
    open_more(page)
    page.fill("#steps input", "33")
    page.fill("#negative textarea", "blurry")
    page.evaluate(RELEASE_FRAMES)
    expect_fields(page, steps="33", negative="blurry")


def test_kept_form_is_back_before_the_server_says_anything(open_page: OpenPage) -> None:
    page = open_page().page
    open_more(page)
    page.fill("#prompt textarea", "half a thought")
    page.fill("#steps input", "31")
    page.fill("#seed input", "77")
    page.route(QUESTIONS, lambda route: None)
    page.reload()
    open_more_when_there(page)
    expect_fields(page, prompt="half a thought", steps="31", seed="77")
    page.unroute(QUESTIONS)


def test_what_is_typed_before_the_page_has_its_answer_stays(open_page: OpenPage) -> None:
    page = open_page().page
    open_more(page)
    page.fill("#prompt textarea", "the old prompt")
    page.fill("#steps input", "31")
    page.fill("#guidance input", "3")
    page.fill("#seed input", "77")
    page.click("#model input")
    page.click("[role=option] >> text=Stable Diffusion 2")
    expect(page.locator("#width input")).to_have_value("768")
    with answers_held(page):
        page.reload()
        open_more_when_there(page)
        page.fill("#prompt textarea", "a new prompt")
        page.fill("#steps input", "44")
        page.fill("#seed input", "")
        page.fill("#width input", "512")
        page.fill("#negative textarea", "blurry")
    expect(page.locator("#model-line")).to_contain_text("download 2.6 GB")
    expect_fields(page, prompt="a new prompt", steps="44", seed="", width="512", negative="blurry")
    expect_fields(page, height="768", guidance="3", model="Stable Diffusion 2")


def test_what_is_typed_while_the_model_changes_stays(open_page: OpenPage) -> None:
    page = open_page().page
    open_more(page)
    with answers_held(page):
        choose(page, "Stable Diffusion 2")
        page.fill("#prompt textarea", PROMPT)
        page.fill("#steps input", "33")
        page.fill("#seed input", "5")
    expect_fields(page, prompt=PROMPT, steps="33", seed="5", width="768", guidance="7.5")


def test_value_typed_and_taken_back_while_the_model_changes_stays(open_page: OpenPage) -> None:
    page = open_page().page
    open_more(page)
    with answers_held(page):
        choose(page, "Stable Diffusion 2")
        page.fill("#steps input", "33")
        page.fill("#steps input", "20")
    expect_fields(page, steps="20", width="768")


def test_last_chosen_model_wins(open_page: OpenPage) -> None:
    page = open_page().page
    open_more(page)
    with answers_held(page):
        choose(page, "Stable Diffusion 2")
        choose(page, "Croquis Mini")
    expect_fields(page, model="Croquis Mini", width="64", height="64", steps="20")
    expect(page.locator("#width .info-text, #width")).to_contain_text(["64 to 128 px"])
    expect(page.locator("#model-line")).to_contain_text("ready")
    choose(page, "Stable Diffusion 2")
    expect_fields(page, width="768", steps="25")


Press = Callable[[Page], None]
PRESSES: dict[str, Press] = {
    "example": lambda page: page.click("#examples .example >> nth=0"),
    "use": lambda page: page.click("#actions [data-event=use]"),
    "undo": lambda page: page.click("#notice >> text=Undo"),
    "last seed": lambda page: page.click("#last-seed"),
}


@pytest.mark.parametrize("press", PRESSES)
def test_what_is_typed_after_a_click_stays(open_page: OpenPage, press: str) -> None:
    page = open_page().page
    open_more(page)
    draw(page, "what the picture has")
    page.fill("#prompt textarea", "what I had")
    page.click("#actions [data-event=use]")
    expect_fields(page, prompt="what the picture has")
    with answers_held(page):
        PRESSES[press](page)
        page.fill("#prompt textarea", "what I want")
        page.fill("#steps input", "33")
        page.fill("#seed input", "5")
    expect_fields(page, prompt="what I want", steps="33", seed="5")


def test_what_is_typed_while_a_dropped_picture_is_read_stays(
    site: Site, open_page: OpenPage
) -> None:
    page = open_page().page
    open_more(page)
    page.fill("#steps input", "27")
    page.fill("#guidance input", "3")
    kept = next(site.studio.settings.data_dir.rglob(Path(draw(page, "a wide lake")).name))
    page.fill("#prompt textarea", "what I had")
    page.fill("#steps input", "20")
    page.fill("#guidance input", "1")
    with answers_held(page):
        page.set_input_files("#dropped input[type=file]", kept)
        expect(page.locator("#dropped")).to_contain_text(kept.name[:8])
        page.wait_for_timeout(300)
        page.fill("#prompt textarea", "what I want")
        page.fill("#steps input", "33")
    expect(page.locator("#notice")).to_contain_text("Croquis")
    expect_fields(page, prompt="what I want", steps="33", guidance="3")
    expect(page.locator("#dropped input[type=file]")).to_have_count(1)


def test_last_picked_picture_is_shown(open_page: OpenPage) -> None:
    page = open_page().page
    drawn = [draw(page) for _ in range(3)]
    with answers_held(page):
        page.click(".strip [data-event=pick] >> nth=1")
        page.click(".strip [data-event=pick] >> nth=2")
    expect(page.locator(RESULT)).to_have_attribute("src", drawn[0])


def test_each_example_clicked_is_drawn(site: Site, open_page: OpenPage) -> None:
    page = open_page().page
    with answers_held(page, number=2):
        page.click("#examples .example >> nth=0")
        page.click("#examples .example >> nth=1")
    expect(page.locator(".strip [data-event=pick]")).to_have_count(2)
    prompts = {job.request.prompt for job in site.studio.jobs(owner_of(page))}
    assert len(prompts) == 2


def test_stop_does_not_stop_the_job_after_the_one_it_was_pressed_for(
    site: Site, open_page: OpenPage
) -> None:
    page = open_page().page
    hold(site, page, 5)
    page.click("#create")
    expect(page.locator(".numbers")).to_contain_text("1 more waiting")
    with answers_held(page):
        page.click("#stop")
        site.engine.hold_at = 3
        expect(page.locator(".numbers")).to_contain_text("tep 2 of 20")
        expect(page.locator(".numbers")).not_to_contain_text("waiting")
    expect(page.locator("#stop")).to_be_enabled()
    site.engine.hold_at = None
    expect(page.locator(".strip [data-event=pick]")).to_have_count(2)


def test_stop_between_two_jobs_stops_the_next_one(
    site: Site, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page().page
    may_show = threading.Event()
    hold(site, page, 5)
    [first] = site.studio.jobs(owner_of(page), active_only=True)

    async def follow(studio: Studio, owner: str, job: Job) -> AsyncIterator[watch.Glimpse]:
        while job.id != first.id and not may_show.is_set():
            await anyio.sleep(0.02)
        async for glimpse in follow_now(studio, owner, job):
            yield glimpse

    follow_now = watch._follow
    monkeypatch.setattr(watch, "_follow", follow)
    page.click("#create")
    expect(page.locator(".numbers")).to_contain_text("1 more waiting")
    site.engine.hold_at = 3
    expect(page.locator(".strip [data-event=pick]")).to_have_count(1)
    page.click("#stop")
    expect(page.locator("#stop")).to_be_disabled()
    may_show.set()
    expect(page.locator(".sheet.stopped")).to_be_visible()
    states = [job.state for job in site.studio.jobs(owner_of(page))]
    assert states == [JobState.CANCELLED, JobState.DONE]


FIELD_TYPES = ("textbox", "number", "dropdown", "radio", "slider", "checkbox", "file")


def test_no_answer_of_the_server_can_set_a_field(site: Site) -> None:
    config = build_blocks(site.studio).get_config_file()
    props = {one["id"]: one["props"] for one in config["components"]}
    labels = {
        one["id"]: one["type"]
        for one in config["components"]
        if one["type"] in FIELD_TYPES and one["props"].get("elem_id") != "answer"
    }
    assert len(labels) > len(FIELDS)
    for event in config["dependencies"]:
        if event["backend_fn"]:
            set_by_server = [props[one].get("elem_id") for one in event["outputs"] if one in labels]
            assert set_by_server == [], event["api_name"]


def choose(page: Page, title: str) -> None:
    page.click("#model input")
    page.click(f"[role=option] >> text={title}")


def open_more_when_there(page: Page) -> None:
    page.locator("#more button").first.wait_for()
    open_more(page)
