"""Coming back, going away, and other visitors."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from lab.serving import free_port
from tests.browser import Profiles, Site, serve, wait_ready
from tests.page_fixtures import PROMPT, RESULT, OpenPage, ask, draw, hold

pytest_plugins = ["tests.page_fixtures"]


def test_reload_in_mid_run_finds_it_again(site: Site, open_page: OpenPage) -> None:
    visitor = open_page()
    page = visitor.page
    hold(site, page, 8)
    page.reload()
    wait_ready(page)
    expect(page.locator(".numbers")).to_contain_text("tep 7 of 20")
    expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
    expect(page.locator("#stop")).to_be_enabled()
    preview = page.locator("#live img").get_attribute("src")
    visitor.shot("found-again")
    site.engine.hold_at = 14
    expect(page.locator(".numbers")).to_contain_text("tep 13 of 20")
    expect(page.locator("#live img")).not_to_have_attribute("src", str(preview))
    site.engine.hold_at = None
    expect(page.locator(RESULT)).to_be_visible()
    page.reload()
    expect(page.locator(RESULT)).to_be_visible()


def test_result_of_a_run_that_ended_unseen(site: Site, open_page: OpenPage) -> None:
    page = open_page().page
    hold(site, page, 8)
    page.goto("about:blank")
    site.engine.hold_at = None
    page.goto(site.url)
    expect(page.locator(RESULT)).to_be_visible()


def test_form_is_kept_over_a_reload(open_page: OpenPage) -> None:
    page = open_page().page
    page.fill("#prompt textarea", "half a thought")
    page.click("#more-button")
    page.fill("#negative textarea", "blurry")
    page.fill("#steps input", "31")
    page.click("#size label >> text=Tall")
    page.fill("#seed input", "77")
    page.reload()
    wait_ready(page)
    page.click("#more-button")
    expect(page.locator("#prompt textarea")).to_have_value("half a thought")
    expect(page.locator("#negative textarea")).to_have_value("blurry")
    expect(page.locator("#steps input")).to_have_value("31")
    expect(page.locator("#height input")).to_have_value("96")
    expect(page.locator("#seed input")).to_have_value("77")
    expect(page.locator("#size label.selected")).to_contain_text("Tall")


def test_two_visitors_see_nothing_of_each_other(open_page: OpenPage) -> None:
    one, two = open_page(), open_page()
    address = draw(one.page, "a secret garden")
    two.page.reload()
    wait_ready(two.page)
    assert "secret garden" not in two.page.content()
    expect(two.page.locator(".strip")).to_have_count(0)
    expect(two.page.locator("#prompt textarea")).to_have_value("")
    url = one.page.evaluate(f"new URL('{address}', document.baseURI).href")
    assert one.context.request.get(url).status == 200
    assert two.context.request.get(url).status == 404
    assert two.context.request.get(url.replace(".png", ".webp")).status == 404


def test_lost_connection_says_so_and_finds_the_run_again(site: Site, open_page: OpenPage) -> None:
    visitor = open_page()
    page = visitor.page
    hold(site, page, 8)
    visitor.context.set_offline(True)
    expect(page.locator("#connection")).to_contain_text("Reconnecting")
    visitor.shot("offline")
    visitor.complaints.clear()
    visitor.context.set_offline(False)
    expect(page.locator("#connection")).to_be_empty()
    expect(page.locator(".numbers")).to_contain_text("tep 7 of 20")
    expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
    site.engine.hold_at = None
    expect(page.locator(RESULT)).to_be_visible()
    visitor.complaints.clear()


def test_second_tab_lives_with_what_the_first_has_deleted(open_page: OpenPage, site: Site) -> None:
    visitor = open_page()
    draw(visitor.page)
    other = visitor.context.new_page()
    other.goto(site.url)
    expect(other.locator(RESULT)).to_be_visible()
    visitor.page.click("#actions >> text=Delete")
    expect(visitor.page.locator(".strip")).to_have_count(0)
    for action in ("use", "vary", "delete"):
        other.click(f"#actions [data-event={action}]")
        expect(other.locator("#notice [role=alert]")).to_contain_text("deleted in another tab")
    other.click(".strip [data-event=pick]")
    expect(other.locator(".sheet.empty")).to_be_visible()
    expect(other.locator(".toast-wrap .toast-body")).to_have_count(0)


def test_an_idle_tab_notices_what_another_one_began(site: Site, open_page: OpenPage) -> None:
    visitor = open_page()
    idle = visitor.context.new_page()
    idle.goto(site.url)
    wait_ready(idle)
    asked: list[str] = []
    idle.on("request", lambda request: asked.append(request.url))
    hold(site, visitor.page, 8)
    come_back(idle)
    expect(idle.locator(".numbers")).to_contain_text("tep 7 of 20")
    expect(idle.locator("#stop")).to_be_enabled()
    site.engine.hold_at = None
    expect(idle.locator(RESULT)).to_be_visible()
    expect(idle.locator("#live .sheet")).to_have_count(0)
    draw(visitor.page)
    expect(idle.locator(".strip [data-event=pick]")).to_have_count(1)
    asked.clear()
    come_back(idle)
    idle.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(idle.locator(".strip [data-event=pick]")).to_have_count(2)
    assert len([url for url in asked if "/gradio_api/run/" in url]) == 1


def come_back(page: Page) -> None:
    """What a browser tells a tab that is shown again; a headless one shows all at once."""
    page.wait_for_timeout(2100)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_stop_may_come_too_late(site: Site, open_page: OpenPage) -> None:
    page = open_page().page
    hold(site, page, 20)
    page.route("**/gradio_api/run/**", lambda route: route.continue_())
    site.engine.hold_at = None
    page.evaluate("document.querySelector('#stop').click()")
    expect(page.locator("#live .sheet")).to_have_count(0)
    expect(page.locator("#stop")).to_be_disabled()
    expect(page.locator(f"{RESULT}, .sheet.stopped")).to_be_visible()
    draw(page)


def test_without_a_cookie_the_page_says_what_to_do(open_page: OpenPage) -> None:
    visitor = open_page()
    visitor.context.clear_cookies()
    ask(visitor.page)
    expect(visitor.page.locator("#notice [role=alert]")).to_contain_text("Allow cookies")
    expect(visitor.page.locator("#prompt textarea")).to_have_value(PROMPT)
    expect(visitor.page.locator("#live .sheet")).to_have_count(0)


def test_server_may_start_again_under_an_open_page(profiles: Profiles, tmp_path: Path) -> None:
    port = free_port()
    with serve(tmp_path, port=port) as first:
        visitor = profiles.visit(first.url)
        page = visitor.page
        draw(page)
        page.click("#model input")
        page.click("[role=option] >> text=Stable Diffusion 2")
        expect(page.locator("#notice")).to_contain_text("now sets")
    page.click("#create")
    expect(page.locator("#connection")).to_contain_text("Reconnecting")
    with serve(tmp_path, port=port):
        expect(page.locator("#connection")).to_be_empty()
        wait_ready(page)
        expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
        page.click("#more-button")
        expect(page.locator("#width input")).to_have_value("768")
        expect(page.locator(RESULT)).to_be_visible()
        page.click("#model input")
        page.click("[role=option] >> text=Croquis Mini")
        expect(page.locator("#notice")).to_contain_text("size 64")
        draw(page)
        profiles.leave(visitor)
