"""What is refused, what fails, and what hostile text does to the page: nothing."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Page, expect

from tests.browser import Site, unavailable
from tests.page_fixtures import PROMPT, RESULT, OpenPage, ask, draw

pytest_plugins = ["tests.page_fixtures"]

HOSTILE = '"><img src=x onerror="window.hurt=1"><script>window.hurt=1</script>${1+1}{{x}}'
BAD_INPUT = [
    ("#prompt textarea", "", "The prompt is empty"),
    ("#prompt textarea", "x" * 10_001, "at most 10,000 characters, got 10,001"),
    ("#width input", "65", "Width must be a multiple of 8"),
    ("#width input", "512", "between 64 and 128 for Croquis Mini, got 512"),
    ("#steps input", "0", "Steps must be a whole number between 1 and 200, got 0"),
    ("#steps input", "10000", "between 1 and 200, got 10000"),
    ("#steps input", "", "Steps is empty"),
    ("#seed input", "4294967296", "Seed must be a whole number"),
    ("#seed input", "tuesday", "got 'tuesday'"),
    ("#num-images input", "9", "Pictures must be at most 8"),
]


def test_failure_says_why_and_leaves_the_form(site: Site, open_page: OpenPage) -> None:
    site.engine.error = unavailable()
    visitor = open_page()
    page = visitor.page
    page.click("#more-button")
    page.fill("#steps input", "33")
    page.click("#more-button")
    ask(page)
    expect(page.locator(".sheet.failure")).to_contain_text("there is no connection")
    expect(page.locator(".failed")).to_have_attribute("role", "alert")
    expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
    expect(page.locator("#steps input")).to_have_value("33")
    visitor.shot("failed")
    site.engine.error = None
    page.click("text=Try again")
    expect(page.locator(RESULT)).to_be_visible()


def test_a_bug_shows_one_plain_sentence(site: Site, open_page: OpenPage) -> None:
    site.engine.error = RuntimeError("detail-4711 of /etc/passwd")
    page = open_page().page
    ask(page)
    expect(page.locator(".sheet.failure")).to_contain_text("Something went wrong")
    assert "detail-4711" not in page.content()


def test_bad_input_is_refused_inside_the_page(open_page: OpenPage) -> None:
    page = open_page().page
    page.fill("#prompt textarea", PROMPT)
    page.click("#more-button")
    for field, value, said in BAD_INPUT:
        before = page.input_value(field)
        page.fill(field, value)
        page.click("#create")
        expect(page.locator("#notice [role=alert]")).to_contain_text(said)
        expect(page.locator(field)).to_have_value(value)
        page.fill(field, before)
    expect(page.locator(".toast-wrap .toast-body")).to_have_count(0)
    expect(page.locator("#live .sheet")).to_have_count(0)


def test_hostile_prompt_stays_text(open_page: OpenPage) -> None:
    page = open_page().page
    draw(page, HOSTILE)
    expect(page.locator(RESULT)).to_have_attribute("alt", HOSTILE)
    page.click("#details summary")
    expect(page.locator("#details dd >> nth=0")).to_have_text(HOSTILE)
    assert page.evaluate("window.hurt") is None


def test_very_long_prompt_says_what_was_cut(site: Site, open_page: OpenPage) -> None:
    site.engine.note = "The model reads 30 words of a prompt. It did not read: “and the rest”."
    visitor = open_page()
    page = visitor.page
    draw(page, "a harbour with small boats at dusk, " * 250)
    expect(page.locator("#details .note")).to_contain_text("It did not read")
    visitor.shot("long-prompt")


def test_hostile_metadata_stays_text(open_page: OpenPage, tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text(
        "parameters",
        f"{HOSTILE}\nSteps: 9, Sampler: <img src=x onerror=hurt()>, Model: <b>bold</b>",
    )
    page = open_page().page
    drop(page, picture(tmp_path, info))
    expect(page.locator("#notice")).to_contain_text("AUTOMATIC1111")
    expect(page.locator("#prompt textarea")).to_have_value(HOSTILE)
    expect(page.locator("#notice")).to_contain_text("The scheduler '<img src=x onerror=hurt()>'")
    expect(page.locator("#notice :is(img, b, script)")).to_have_count(0)
    assert page.evaluate("window.hurt") is None


def test_foreign_png_fills_the_form_and_says_what_was_not_understood(
    open_page: OpenPage, tmp_path: Path
) -> None:
    info = PngInfo()
    info.add_text(
        "parameters",
        "a stone bridge\nNegative prompt: blurry\nSteps: 28, Sampler: Euler a, CFG scale: 6.5, "
        "Seed: 99, Size: 96x64, Clip skip: 2, Hires upscaler: Latent",
    )
    page = open_page().page
    drop(page, picture(tmp_path, info))
    expect(page.locator("#prompt textarea")).to_have_value("a stone bridge")
    for field, value in {"steps": "28", "guidance": "6.5", "seed": "99", "width": "96"}.items():
        expect(page.locator(f"#{field} input")).to_have_value(value)
    expect(page.locator("#negative textarea")).to_have_value("blurry")
    expect(page.locator("#scheduler input")).to_have_value("Euler a")
    for said in ("AUTOMATIC1111", "Not understood: ", "Clip skip", "Hires upscaler"):
        expect(page.locator("#notice")).to_contain_text(said)
    expect(page.locator(".strip")).to_have_count(0)


def test_files_that_are_no_pictures_are_refused_in_words(
    open_page: OpenPage, tmp_path: Path
) -> None:
    text, bomb, bare = (tmp_path / name for name in ("text.png", "bomb.png", "bare.png"))
    text.write_text("not a picture")
    bomb.write_bytes(bomb_of(60_000, 60_000))
    Image.new("RGB", (8, 8)).save(bare)
    page = open_page().page
    page.fill("#prompt textarea", PROMPT)
    for file, said in (
        (text, "not a PNG picture"),
        (bomb, "at most 100 million pixels, this one says it has 60000 x 60000"),
        (bare, "carries no settings"),
    ):
        drop(page, file)
        expect(page.locator("#notice [role=alert]")).to_contain_text(said)
        expect(page.locator("#prompt textarea")).to_have_value(PROMPT)


def picture(folder: Path, info: PngInfo) -> Path:
    Image.new("RGB", (8, 8)).save(folder / "dropped.png", pnginfo=info)
    return folder / "dropped.png"


def bomb_of(width: int, height: int) -> bytes:
    """A PNG of few bytes that claims to be very large."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = b"IDAT" + zlib.compress(b"")
    chunks = (header, pixels, b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


def drop(page: Page, file: Path) -> None:
    if not page.locator("#dropped").is_visible():
        page.click("#more-button")
    page.set_input_files("#dropped input[type=file]", file)
