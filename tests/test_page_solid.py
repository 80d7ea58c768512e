"""A thing in three dimensions on the page: its viewer, its turning view, its files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image, ImageDraw
from playwright.sync_api import Page, expect
from tiny_families.shapes import shap_e_catalogue, shap_e_settings

from pipelines.engine import Engine
from pipelines.families import shap_e
from pipelines.families.shap_e import Detail
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from studio.attachments import GIF, GLB
from tests.browser import NARROW, WIDE, Site
from tests.page_fixtures import OpenPage, ask, draw, owner_of

pytest_plugins = ["tests.page_fixtures"]


def chair() -> bytes:
    """A red chair as GLB."""
    boxes = [((1, 0.1, 1), (0, 0, 0)), ((1, 1, 0.1), (0, 0.5, -0.45))]
    boxes += [((0.1, 0.8, 0.1), (x, -0.4, z)) for x in (-0.45, 0.45) for z in (-0.45, 0.45)]
    parts = [trimesh.creation.box(size).apply_translation(place) for size, place in boxes]
    whole = trimesh.util.concatenate(parts)
    whole.visual.vertex_colors = np.tile([200, 40, 40, 255], (len(whole.vertices), 1))
    return whole.export(file_type="glb")


def turning() -> bytes:
    """A GIF of 20 views of a line that turns."""
    views = [Image.new("RGB", (64, 64), "white") for _ in range(20)]
    for place, view in enumerate(views):
        ImageDraw.Draw(view).line((32, 32, 3 * place, 0), fill="red", width=6)
    stream = io.BytesIO()
    views[0].save(stream, "GIF", save_all=True, append_images=views[1:], duration=100, loop=0)
    return stream.getvalue()


def colours(page: Page) -> np.ndarray:
    """What the viewer's canvas shows, (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(page.locator("#mesh canvas").screenshot())))[..., :3]


def is_red(shown: np.ndarray) -> np.ndarray:
    """Where pixels are red."""
    levels = shown.astype(int)
    return (levels[..., 0] > 100) & (levels[..., 0] > levels[..., 1] + 60)


def wait_for(page: Page, is_there: Callable[[np.ndarray], bool]) -> None:
    """Wait until the viewer shows a thing, as told from its pixels."""
    for _ in range(200):
        page.wait_for_timeout(200)
        if is_there(colours(page)):
            return
    raise AssertionError("the viewer does not show it")


def wait_for_chair(page: Page) -> None:
    wait_for(page, lambda shown: is_red(shown).mean() > 0.02)


@pytest.fixture
def thing(site: Site) -> None:
    site.engine.attachments = {GIF: turning(), GLB: chair()}


def test_a_flat_picture_loads_nothing_of_the_viewer(site: Site, open_page: OpenPage) -> None:
    page = open_page().page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    draw(page)
    expect(page.locator("#mesh")).to_be_hidden()
    expect(page.locator("#mesh canvas")).to_have_count(0)
    expect(page.locator("#turning img")).to_have_count(0)
    assert not [url for url in asked if "Canvas3D" in url or url.endswith((GIF, GLB))]


def test_a_thing_is_shown_turning_and_in_the_viewer_and_can_be_kept(
    thing: None, site: Site, open_page: OpenPage
) -> None:
    visitor = open_page()
    page = visitor.page
    draw(page, "a red chair")
    wait_for_chair(page)
    assert page.locator("#turning img").evaluate("one => one.currentSrc").endswith(GIF)
    visitor.shot("solid")
    page.locator("#solid").scroll_into_view_if_needed()
    visitor.shot_as_it_is("solid-viewer")
    [picture] = site.studio.pictures(owner_of(page))
    for text, suffix in (("Download GIF", GIF), ("Download mesh", GLB)):
        with page.expect_download() as download:
            page.click(f"#turning >> text={text}")
        assert download.value.suggested_filename.startswith("a-red-chair-")
        kept = Path(download.value.path()).read_bytes()
        assert kept == picture.attachment(suffix).read_bytes()


def test_the_viewer_turns_by_keyboard_and_the_gallery_stays(
    thing: None, open_page: OpenPage
) -> None:
    page = open_page().page
    draw(page)
    last = draw(page)
    wait_for_chair(page)
    canvas = page.locator('#mesh canvas[tabindex="0"]')
    canvas.focus()
    before = is_red(colours(page))
    for _ in range(8):
        page.keyboard.press("ArrowRight", delay=60)
    page.wait_for_timeout(500)
    assert (is_red(colours(page)) != before).mean() > 0.01
    expect(page.locator(".sheet.picture img")).to_have_attribute("src", last)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement !== document.querySelector('#mesh canvas')")


def test_less_motion_is_heeded_until_the_button_is_pressed(
    thing: None, open_page: OpenPage
) -> None:
    page = open_page().page
    page.emulate_media(reduced_motion="reduce")
    draw(page)
    shown = page.locator("#turning img")
    expect(shown).to_be_visible()
    assert shown.evaluate("one => one.currentSrc").endswith(".png")
    for suffix in (GIF, ".png", GIF):
        page.locator("[data-turn]").focus()
        page.keyboard.press("Enter")
        page.wait_for_function(
            "end => document.querySelector('#turning img').currentSrc.endsWith(end)", arg=suffix
        )


def test_a_thing_without_a_mesh_has_its_view_alone_and_a_flat_one_hides_all(
    site: Site, open_page: OpenPage
) -> None:
    page = open_page().page
    site.engine.attachments = {GIF: turning()}
    draw(page)
    expect(page.locator("#turning img")).to_be_visible()
    expect(page.locator("#mesh")).to_be_hidden()
    expect(page.locator("#mesh canvas")).to_have_count(0)
    expect(page.locator("#turning >> text=Download mesh")).to_have_count(0)
    site.engine.attachments = {}
    draw(page)
    expect(page.locator("#turning img")).to_have_count(0)


def test_another_thing_takes_its_place_and_narrow_screens_hold_it(
    thing: None, site: Site, open_page: OpenPage
) -> None:
    page = open_page(viewport=NARROW).page
    draw(page)
    wait_for_chair(page)
    before = page.locator("#turning img").get_attribute("src")
    draw(page)
    expect(page.locator("#turning img")).not_to_have_attribute("src", str(before))
    wait_for_chair(page)
    box = page.locator("#mesh canvas").bounding_box()
    assert box is not None
    assert box["x"] >= 0 and box["x"] + box["width"] <= NARROW["width"]
    assert box["height"] > 200
    page.set_viewport_size(WIDE)


def test_a_real_run_of_shap_e_ends_in_the_viewer(
    site: Site, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shap_e, "DETAIL", Detail(coarse_samples=2, fine_samples=2, grid=16))
    site.engine.pause()
    settings = shap_e_settings()
    manager = PipelineManager(shap_e_catalogue(settings), Loader(settings), 10**9)
    engine = Engine(site.studio, manager, settings)
    engine.start()
    visitor = open_page()
    page = visitor.page
    page.click("#model input")
    page.keyboard.type("Shap-E")
    page.locator("[role=option]").first.click()
    page.click("#more-button")
    expect(page.locator("#steps input")).to_have_value("64")
    for name, value in (("steps", 2), ("width", 64), ("height", 64)):
        page.fill(f"#{name} input", str(value))
    page.click("#more-button")
    ask(page, "a red chair")
    page.locator("#mesh canvas").wait_for()
    expect(page.locator("#turning img")).to_be_visible()
    wait_for(page, lambda shown: shown[100:-100, 100:-100].std(axis=(0, 1)).max() > 10)
    page.locator("#mesh").scroll_into_view_if_needed()
    visitor.shot_as_it_is("shap-e")
    [picture] = site.studio.pictures(owner_of(page))
    assert picture.recipe.request.model == "shap-e"
    engine.close()
