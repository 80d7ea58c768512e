"""The Models tab in a real browser, over a real server that downloads from a real Hub."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hub_server import HubServer
from playwright.sync_api import Locator, Page, expect
from test_page_access import CUT_OFF, serious
from tiny_house import checkpoint

from lab.serving import free_port, wait_for_page
from tests.browser import NARROW, WIDE, Profiles, Visitor
from tests.page_fixtures import RESULT

pytest_plugins = ["tests.page_fixtures"]

SD2 = "stabilityai/stable-diffusion-2"
GATED = "black-forest-labs/FLUX.1-schnell"
UNET = "unet/diffusion_pytorch_model.fp16.safetensors"
BIG_BYTES = 120_000_000
SLOW, FAST = {"pause_s": 0.3}, {"pause_s": 0.0}
Opened = Callable[..., Page]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A Hub with Stable Diffusion 2 on a slow line, and a gated model."""
    root = tmp_path_factory.mktemp("hub")
    for name, note in ((SD2, SLOW), (GATED, {"gated": True})):
        shutil.copytree(checkpoint("mini"), root / name)
        for path in (root / name).rglob("*.safetensors"):
            path.rename(path.with_suffix(".fp16.safetensors"))
        (root / name / ".hub.json").write_text(json.dumps(note))
    (root / SD2 / UNET).write_bytes(os.urandom(BIG_BYTES))
    server = HubServer(0, root, root / "asked.txt")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@contextmanager
def serving(hub: HubServer, folder: Path, **settings: object) -> Iterator[str]:
    """Serve the page in a process of its own, whose Hub is `hub`; yields its address."""
    environ = {**os.environ, "HF_HOME": str(folder / "hub"), "HF_ENDPOINT": hub.url}
    environ |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    port = free_port()
    program = str(Path(__file__).with_name("models_site.py"))
    told = json.dumps({"data_dir": str(folder / "croquis"), **settings})
    server = subprocess.Popen([sys.executable, program, told, str(port)], env=environ)
    try:
        wait_for_page(f"http://127.0.0.1:{port}", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def url(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(hub, tmp_path_factory.mktemp("site")) as url:
        yield url


@pytest.fixture
def visit(profiles: Profiles) -> Iterator[Callable[..., Visitor]]:
    """Open the Models tab as a new visitor; at the end, nothing may have gone wrong in it."""
    opened: list[Visitor] = []

    def visit_as_new_visitor(url: str, **how: object) -> Visitor:
        visitor = profiles.visit(url, **how)  # type: ignore[arg-type]
        opened.append(visitor)
        visitor.page.click("#top nav >> text=Models")
        expect(visitor.page.locator("#models table")).to_be_visible()
        return visitor

    yield visit_as_new_visitor
    for visitor in opened:
        profiles.leave(visitor)
    assert [visitor.complaints for visitor in opened] == [[] for _ in opened]


def row(page: Page, key: str) -> Locator:
    return page.locator(f'#models tr[data-model="{key}"]')


def state(page: Page, key: str) -> Locator:
    return row(page, key).locator(".state")


def press(page: Page, key: str, name: str) -> None:
    row(page, key).get_by_role("button", name=re.compile(f"^{name}\\b")).click()


def test_every_model_says_what_it_costs_and_who_may_use_it(
    url: str, visit: Callable[..., Visitor]
) -> None:
    page = visit(url).page
    expect(state(page, "builtin")).to_have_text("ready")
    expect(row(page, "builtin").get_by_role("button")).to_have_count(1)
    schnell = row(page, "flux1-schnell")
    expect(schnell).to_contain_text("must be accepted at the Hub; no token is set")
    link = schnell.get_by_role("link", name="accepted at the Hub")
    expect(link).to_have_attribute("href", f"https://huggingface.co/{GATED}")
    expect(row(page, "flux1-dev")).to_contain_text("non-commercial use only")
    expect(row(page, "sd2")).to_contain_text("2.6 GB")
    heads = page.locator("#models").get_by_role("columnheader")
    assert heads.all_inner_texts() == ["Model", "Licence", "Size", "State", "Actions"]
    assert page.locator("#models").get_by_role("rowheader").count() >= 40


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious_and_nothing_is_cut_off(
    url: str, visit: Callable[..., Visitor], dark: bool
) -> None:
    visitor = visit(url, dark=dark)
    page = visitor.page
    visitor.shot(f"models{'-dark' if dark else ''}")
    problems = []
    for viewport in (NARROW, WIDE):
        page.set_viewport_size(viewport)
        problems += serious(page) + page.evaluate(CUT_OFF)
        assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    assert problems == []


def test_a_download_is_followed_reloaded_stopped_gone_on_with_used_and_deleted(
    url: str, hub: HubServer, visit: Callable[..., Visitor]
) -> None:
    set_pace(hub, SLOW)
    visitor = visit(url)
    page = visitor.page
    press(page, "sd2", "Download")
    line = page.locator("#downloads .numbers")
    expect(line).to_contain_text(re.compile(r"Stable Diffusion 2, \d+ MB of 0\.1 GB, .* left"))
    expect(state(page, "sd2")).to_have_text("downloading")
    visitor.shot("models-downloading")
    page.reload()
    expect(line).to_contain_text("Stable Diffusion 2, ")
    first = share(page)
    page.wait_for_function(
        "(first) => document.querySelector('#downloads progress')?.value > first", arg=first
    )
    draw_beside(page)
    expect(line).to_contain_text(re.compile(r", [2-9]\d MB of"))
    page.locator("#downloads").get_by_role("button", name="Stop download").click()
    expect(state(page, "sd2")).to_contain_text("of about 2.6 GB on disk")
    expect(row(page, "sd2")).to_contain_text("stopped; what came is kept")
    set_pace(hub, FAST)
    press(page, "sd2", "Download the rest")
    expect(state(page, "sd2")).to_have_text("on disk")
    assert continued(hub)
    delete(visitor)
    expect(state(page, "sd2")).to_have_text("to be downloaded")
    expect(page.locator("#models-notice")).to_contain_text("Stable Diffusion 2 is deleted; 0.1 GB")


def share(page: Page) -> float:
    return float(page.locator("#downloads progress").evaluate("bar => bar.value"))


def draw_beside(page: Page) -> None:
    """Draw a picture while the download runs, and come back to it."""
    page.click("#top nav >> text=Create")
    page.fill("#prompt textarea", "a red house")
    page.keyboard.press("Control+Enter")
    expect(page.locator(RESULT)).to_be_visible()
    page.go_back()
    expect(page.locator("#downloads progress")).to_be_visible()


def set_pace(hub: HubServer, note: dict[str, float]) -> None:
    (hub.folder / SD2 / ".hub.json").write_text(json.dumps(note))


def continued(hub: HubServer) -> list[str]:
    """The requests for the large file that went on from somewhere in it."""
    lines = hub.log.read_text().splitlines()
    return [line for line in lines if f"{UNET} bytes=" in line]


def delete(visitor: Visitor) -> None:
    """It takes two clicks; the second one names what is freed."""
    page = visitor.page
    sure = row(page, "sd2").get_by_role("button", name=re.compile(r"^Delete 0\.1 GB"))
    expect(sure).to_be_hidden()
    row(page, "sd2").locator("summary").click()
    expect(sure).to_be_visible()
    expect(row(page, "sd2")).to_contain_text("It would have to be downloaded again.")
    visitor.shot("models-delete")
    sure.click()


def test_a_download_that_fails_says_why_in_its_row(url: str, visit: Callable[..., Visitor]) -> None:
    visitor = visit(url)
    page = visitor.page
    press(page, "flux1-schnell", "Download")
    failed = page.locator('#models tr[data-of="flux1-schnell"] .failed')
    expect(failed).to_contain_text(f"accept its licence at https://huggingface.co/{GATED}")
    expect(failed).to_contain_text("CROQUIS_HF_TOKEN")
    expect(failed.get_by_role("link")).to_have_attribute("href", f"https://huggingface.co/{GATED}")
    expect(page.locator("#voice")).to_contain_text("A download has failed")
    failed.scroll_into_view_if_needed()
    visitor.shot_as_it_is("models-failed-1280")
    press(page, "flux1-schnell", "Download")
    expect(failed).to_be_visible()


def test_use_chooses_the_model_in_the_form(url: str, visit: Callable[..., Visitor]) -> None:
    page = visit(url).page
    press(page, "sd2", "Use")
    expect(page.locator("#prompt textarea")).to_be_focused()
    expect(page.locator("#model input")).to_have_value("Stable Diffusion 2")
    expect(page.locator("#notice")).to_contain_text("Stable Diffusion 2")
    expect(page.locator("#models")).to_be_hidden()
    page.click("#more-button")
    expect(page.locator("#steps input").first).to_have_value("25")
    page.reload()
    expect(page.locator("#model input")).to_have_value("Stable Diffusion 2")


def test_a_folder_is_added_used_and_taken_off_the_list(
    url: str, visit: Callable[..., Visitor], tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint("mini"), tmp_path / "my-own-model")
    page = visit(url).page
    page.get_by_label("Add a model").fill("no such thing")
    page.click("#add-button")
    expect(page.locator("#models-notice [role=alert]")).to_be_visible()
    page.get_by_label("Add a model").fill(str(folder))
    page.keyboard.press("Enter")
    expect(page.locator("#models-notice")).to_contain_text("is in the list")
    added = page.locator("#models tr", has_text="my-own-model").first
    added.get_by_role("button", name=re.compile("^Use")).click()
    expect(page.locator("#model input")).to_have_value(re.compile("my-own-model"))
    page.fill("#prompt textarea", "a red house")
    page.click("#create")
    expect(page.locator(RESULT)).to_be_visible()
    page.go_back()
    added.get_by_role("button", name=re.compile("^Take off")).click()
    expect(page.locator("#models tr", has_text="my-own-model")).to_have_count(0)


def test_the_keyboard_alone_walks_the_tabs_and_deletes_nothing_by_one_key(
    url: str, visit: Callable[..., Visitor]
) -> None:
    page = visit(url).page
    page.locator("#top nav >> text=Models").focus()
    seen = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.textContent"))
        ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert ring != "none"
    assert {"Use Croquis Mini", "Use Stable Diffusion 2", "Download Stable Diffusion 2"} <= seen
    page.locator("#top nav >> text=Create").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#prompt")).to_be_visible()
    expect(page.locator("#models")).to_be_hidden()


def test_keys_of_create_do_nothing_on_the_other_tab(
    url: str, visit: Callable[..., Visitor]
) -> None:
    page = visit(url).page
    page.keyboard.press("Control+Enter")
    page.reload()
    expect(page.locator("#models table")).to_be_visible()
    page.click("#top nav >> text=Create")
    expect(page.locator("#notice [role=alert]")).to_have_count(0)
    expect(page.locator(RESULT)).to_have_count(0)


def test_strangers_see_the_list_and_no_buttons_that_change_it(
    hub: HubServer, tmp_path: Path, visit: Callable[..., Visitor]
) -> None:
    with serving(hub, tmp_path, model_admin=False) as url:
        page = visit(url).page
        expect(page.locator("#models-head")).to_contain_text("The host of this server")
        names = set(page.locator("#models button, #models summary").all_inner_texts())
        assert names
        assert {name.split()[0] for name in names} == {"Use"}
        expect(page.locator("#add-model")).to_be_hidden()
        page.close()
