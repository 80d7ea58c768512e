"""The page in a real browser: a picture is drawn over, filled in, extended, enlarged by a stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from studio.ingredients import Start
from studio.request import GenerationRequest
from tests.browser import NARROW, SLOWEST_MS, Site
from tests.page_fixtures import RESULT, OpenPage, draw, owner_of

pytest_plugins = ["tests.page_fixtures"]

FILL_IN, EXTEND = "Fill in what is painted over", "Extend its edges"


def modify(page: Page) -> str:
    """Draw a picture and start from it; return its id."""
    address = draw(page)
    page.click("#actions [data-event=modify]")
    expect(page.locator("#start")).to_be_visible()
    return Path(address).stem


def choose(page: Page, task: str) -> None:
    page.click(f"#start-task label:has-text('{task}')")


def create(page: Page, site: Site) -> GenerationRequest:
    """Press Create, wait for the picture, and return what was asked for."""
    before = page.locator(".strip [data-event=pick]").count()
    page.click("#create")
    expect(page.locator(".strip [data-event=pick]")).to_have_count(before + 1)
    expect(page.locator("#live .sheet")).to_have_count(0)
    return site.studio.jobs(owner_of(page), limit=1)[0].request


def serious(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [one["id"] for one in found if one["impact"] in ("serious", "critical")]


def test_a_picture_is_drawn_over_and_words_alone_again(open_page: OpenPage, site: Site) -> None:
    visitor = open_page()
    page = visitor.page
    picture = modify(page)
    visitor.shot("modify")
    assert serious(page) == []
    expect(page.locator("#start-view img")).to_have_attribute("src", f"pictures/{picture}.webp")
    page.fill("#start-strength input[type=number]", "0.3")
    page.press("#start-strength input[type=number]", "Tab")
    asked = create(page, site)
    assert asked.start == Start(task="image_to_image", picture=picture, strength=0.3)
    page.click("#details summary")
    expect(page.locator("#details")).to_contain_text("a picture here: draw over it, 30% changed")
    page.click("#start-view [data-event=unstart]")
    expect(page.locator("#start")).not_to_be_visible()
    assert create(page, site).start is None


def test_what_is_painted_over_becomes_the_mask(open_page: OpenPage, site: Site) -> None:
    visitor = open_page()
    page = visitor.page
    picture = modify(page)
    choose(page, FILL_IN)
    canvas = page.locator("#start-paint canvas").first
    expect(canvas).to_be_visible(timeout=SLOWEST_MS)
    page.click("#create")
    expect(page.locator("#notice [role=alert]")).to_contain_text("Paint over")
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(1500)  # the editor fits its picture in after it shows
    box = canvas.bounding_box()
    assert box is not None
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 20, middle[1], steps=8)
    page.mouse.up()
    visitor.shot("painted-over")
    page.wait_for_timeout(500)
    asked = create(page, site)
    assert asked.start is not None
    assert (asked.start.task, asked.start.picture) == ("inpainting", picture)
    mask = np.asarray(site.studio.image(str(asked.start.mask), owner_of(page)))
    height, width = mask.shape[:2]
    assert mask[height // 2, width // 2].max() == 255
    assert mask[: height // 8].max() == 0
    assert 0.001 < (mask > 0).mean() < 0.3


def test_a_mask_needs_no_brush(open_page: OpenPage, site: Site) -> None:
    page = open_page().page
    modify(page)
    choose(page, FILL_IN)
    page.click("#start-area label:has-text('left half')")
    expect(page.locator("#start-paint")).not_to_be_visible()
    asked = create(page, site)
    assert asked.start is not None
    mask = np.asarray(site.studio.image(str(asked.start.mask), owner_of(page)))
    half = mask.shape[1] // 2
    assert (mask[:, :half] == 255).all()
    assert (mask[:, half:] == 0).all()


def test_a_picture_is_extended_and_the_form_comes_back_after_a_reload(
    open_page: OpenPage, site: Site
) -> None:
    visitor = open_page()
    page = visitor.page
    picture = modify(page)
    choose(page, EXTEND)
    page.fill("#extend-left input", "32")
    page.press("#extend-left input", "Tab")
    asked = create(page, site)
    margins = (32, 16, 16, 16)
    assert asked.start == Start(task="outpainting", picture=picture, margins=margins)
    assert (asked.width, asked.height) == (112, 96)
    page.reload()
    expect(page.locator("#start")).to_be_visible()
    expect(page.locator("#extend-left input")).to_have_value("32")
    page.set_viewport_size(NARROW)
    visitor.shot("extend-390")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    assert serious(page) == []


def test_a_picture_of_one_s_own_is_a_start(open_page: OpenPage, site: Site, tmp_path: Path) -> None:
    page = open_page().page
    Image.new("RGB", (300, 200), "teal").save(tmp_path / "mine.jpg")
    page.click("#more-button")
    with page.expect_file_chooser() as chooser:
        page.click("#brought")
    chooser.value.set_files(tmp_path / "mine.jpg")
    expect(page.locator("#start-view img")).to_be_visible()
    page.fill("#prompt textarea", "a lake")
    asked = create(page, site)
    assert asked.start is not None
    assert asked.start.picture.startswith("input-")
    assert site.studio.image(asked.start.picture, owner_of(page)).size == (300, 200)
    assert asked.width > asked.height
    page.wait_for_function("document.querySelector('#start-view img').naturalWidth === 300")


def test_a_model_that_draws_from_words_alone_says_so(open_page: OpenPage, site: Site) -> None:
    page = open_page().page
    draw(page)
    plain = next(row for row in site.studio.catalogue.models.values() if row.key == "vq-diffusion")
    page.click("#model input")
    page.keyboard.type(plain.title)
    expect(page.locator("[role=option]")).to_have_count(1)
    page.keyboard.press("Enter")
    page.click("#actions [data-event=modify]")
    expect(page.locator("#notice [role=alert]")).to_contain_text("draws from words alone")
    expect(page.locator("#start")).not_to_be_visible()


def test_the_next_stage_of_a_cascade_takes_the_picked_picture(
    open_page: OpenPage, site: Site
) -> None:
    """Both stages of IF: four small ones, one is picked, twice enlarged."""
    visitor = open_page()
    page = visitor.page
    draw(page)  # so that the visitor has a cookie's owner
    owner, studio = owner_of(page), site.studio
    first = studio.default_request("if-1", "a sign that says open")
    studio.submit(GenerationRequest.from_json(first.to_json() | {"num_images": 4}), owner)
    page.reload()
    expect(page.locator(".strip [data-event=pick]")).to_have_count(5)
    page.click(".strip [data-event=pick] >> nth=1")
    stage = page.locator("#actions [data-event=stage]")
    expect(stage).to_contain_text("256 px")
    visitor.shot("first-stage")
    picked = Path(str(page.locator(RESULT).get_attribute("src"))).stem
    stage.click()
    expect(stage).to_contain_text("1024 px")
    second = studio.jobs(owner, limit=1)[0].request
    assert second.model == "if-2"
    assert second.start == Start(task="upscaling", picture=picked)
    assert (second.width, second.height, second.prompt) == (256, 256, first.prompt)
    stage.click()
    expect(stage).to_have_count(0)
    third = studio.jobs(owner, limit=1)[0].request
    assert (third.width, third.height) == (1024, 1024)
    visitor.shot("third-stage")
