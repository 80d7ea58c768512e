"""A real browser, a real server, and a scripted engine that shows each state on demand."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from api.server import build_server
from lab.serving import CHROMIUM_FLAGS, find_chromium, free_port
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.errors import ModelUnavailable
from studio.jobs import Enlargement, Job
from studio.settings import Settings
from studio.studio import Studio

SCREENSHOTS = Path(__file__).resolve().parent.parent / "screenshots"
PARTS = 4
"""In which a picture is enlarged."""
WIDE = {"width": 1280, "height": 800}
NARROW = {"width": 390, "height": 844}
SLOWEST_MS = 120_000
"""What a busy machine of two cores may take for one thing on the page."""


@dataclass
class ScriptedEngine:
    """Takes real jobs from a real Studio and draws discs, as slowly as a test wants."""

    studio: Studio
    step_s: float = 0.05
    load_s: float = 0.0
    error: Exception | None = None
    note: str = ""
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    """Kept beside each picture."""
    paused: threading.Event = field(default_factory=threading.Event)
    """Set: takes no job, so that jobs stay in the queue."""
    hold_at: int | None = None
    """Stops for as long as it is not None before this step of a picture; the parts in which it
    is enlarged count on from its last step."""

    def __post_init__(self) -> None:
        self._closed = threading.Event()
        self._resting = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Take no more jobs; returns when none can be on its way any more."""
        self._resting.clear()
        self.paused.set()
        assert self._resting.wait(SLOWEST_MS / 1000)

    def close(self) -> None:
        self._closed.set()
        self._thread.join(10)

    def _loop(self) -> None:
        while not self._closed.is_set():
            if self.paused.is_set():
                self._resting.set()
                time.sleep(0.02)
            elif job := self.studio.take(0.1):
                self._draw(job)

    def _draw(self, job: Job) -> None:
        studio = self.studio
        if self.load_s:
            studio.report_loading(job.id, "Loading Stable Diffusion 2, 2.6 GB")
            self._load(job)
        if self.error is not None:
            studio.fail(job.id, self.error)
            return
        if job.enlargement is not None:
            self._enlarge(job, job.enlargement)
            return
        if self.note:
            studio.add_note(job.id, self.note)
        total = job.request.num_inference_steps
        for index in range(job.request.num_images):
            final = draw_disc(job, index, 1.0)
            for step in range(1, total + 1):
                while self.hold_at == step and not self._stopped(job):
                    time.sleep(0.02)
                if self._stopped(job):
                    studio.cancelled(job.id)
                    return
                self._sleep(self.step_s)
                preview = as_jpeg(draw_disc(job, index, step / total))
                studio.report_step(job.id, step, total, index, preview)
            if job.request.upscale > 1 and not self._enlarge_drawn(job, index):
                studio.cancelled(job.id)
                return
            extra = self.attachments
            studio.keep(job.id, index, final, "scripted@1", {"diffusers": "0"}, extra)
        studio.finish(job.id)

    def _enlarge_drawn(self, job: Job, index: int) -> bool:
        """Tell of each part; False if the visitor stopped it."""
        preview = as_jpeg(draw_disc(job, index, 1.0))
        for part in range(PARTS + 1):
            self.studio.report_enlarging(job.id, part, PARTS, index, preview)
            while self.hold_at == job.request.num_inference_steps + part + 1:
                if self._stopped(job):
                    return False
                time.sleep(0.02)
        return not self._stopped(job)

    def _enlarge(self, job: Job, wanted: Enlargement) -> None:
        kept = Image.open(self.studio.parent(job).path)
        for part in range(1, PARTS + 1):
            while self.hold_at == part and not self._stopped(job):
                time.sleep(0.02)
            if self._stopped(job):
                self.studio.cancelled(job.id)
                return
            self.studio.report_step(job.id, part, PARTS, 0, as_jpeg(kept.convert("RGB")))
        self.studio.keep_enlarged(job.id, kept.resize((4 * wanted.width, 4 * wanted.height)))
        self.studio.finish(job.id)

    def _load(self, job: Job) -> None:
        ends = time.monotonic() + self.load_s
        while time.monotonic() < ends and not self._stopped(job):
            time.sleep(0.02)

    def _stopped(self, job: Job) -> bool:
        return self._closed.is_set() or self.studio.is_cancelled(job.id)

    def _sleep(self, seconds: float) -> None:
        self._closed.wait(seconds)


def draw_disc(job: Job, index: int, sharpness: float) -> Image.Image:
    """A disc on a ground whose colours come from the seed; grows with `sharpness`."""
    request = job.request
    seed = request.seed + index
    size = (request.width * request.upscale, request.height * request.upscale)
    image = Image.new("RGB", size, f"hsl({seed * 47 % 360}, 45%, 72%)")
    radius = min(size) * 0.36 * sharpness
    middle = (size[0] / 2, size[1] / 2)
    box = (middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius)
    ImageDraw.Draw(image).ellipse(box, fill=f"hsl({(seed * 47 + 160) % 360}, 50%, 42%)")
    return image


def as_jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    return buffer.getvalue()


def unavailable() -> ModelUnavailable:
    return ModelUnavailable(
        "Stable Diffusion 2 could not be loaded: it was removed from the Hub, it asks for a "
        "token, or there is no connection. Choose another model, or point CROQUIS_MODEL_PATHS "
        "at a local folder."
    )


@dataclass
class Site:
    """A running server with its studio and its scripted engine."""

    url: str
    studio: Studio
    engine: ScriptedEngine


@contextmanager
def serve(
    data_dir: Path,
    *,
    port: int = 0,
    build_engine: Callable[[Studio], Any] = ScriptedEngine,
    **limits: int,
) -> Iterator[Site]:
    """Serve the real page over a real Studio whose pictures the scripted engine draws."""
    settings = Settings(data_dir=data_dir, **limits)
    catalogue = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings)
    studio = Studio(settings, catalogue)
    studio.start()
    port = port or free_port()
    server = uvicorn.Server(
        uvicorn.Config(
            build_server(studio),
            host="127.0.0.1",
            port=port,
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    engine = build_engine(studio)
    try:
        yield Site(f"http://127.0.0.1:{port}", studio, engine)
    finally:
        engine.hold_at = None
        engine.close()
        server.should_exit = True
        thread.join(10)
        studio.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own browser, or else the one that Playwright has installed."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@dataclass
class Visitor:
    """One browser profile with its open page, and all that went wrong in it."""

    context: BrowserContext
    page: Page
    complaints: list[str]
    """Console errors, uncaught exceptions, and requests that left this machine."""

    def shot(self, name: str) -> None:
        """Take a screenshot of the window at both widths; neither may scroll sideways."""
        before = self.page.viewport_size
        for viewport in (WIDE, NARROW):
            self.page.set_viewport_size(viewport)
            self.page.evaluate("scrollTo(0, 0)")
            assert self.page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
            self.shot_as_it_is(f"{name}-{viewport['width']}")
        self.page.set_viewport_size(before)

    def shot_as_it_is(self, name: str, *, full_page: bool = False) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=full_page)


class Profiles:
    """Profiles that are emptied and used again: the page's own files stay in their caches."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._empty: list[BrowserContext] = []

    def visit(self, url: str, *, viewport: dict[str, int] = WIDE, dark: bool = False) -> Visitor:
        """Open the page as a visitor who was never here before; wait until it is usable."""
        context = self._empty.pop() if self._empty else self._new()
        page = context.new_page()
        page.goto(f"{url}/robots.txt")
        page.evaluate("localStorage.clear()")
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme="dark" if dark else "light")
        complaints: list[str] = []
        page.on("console", lambda message: _note(complaints, message.type, message.text))
        page.on("pageerror", lambda error: complaints.append(f"exception: {error}"))
        page.on("request", lambda request: _check_host(complaints, request.url))
        page.goto(url)
        wait_ready(page)
        return Visitor(context, page, complaints)

    def leave(self, visitor: Visitor) -> None:
        """Close the visitor's pages and forget who it was."""
        for page in visitor.context.pages:
            page.close()
        visitor.context.clear_cookies()
        visitor.context.set_offline(False)
        self._empty.append(visitor.context)

    def _new(self) -> BrowserContext:
        context = self._browser.new_context(
            accept_downloads=True, permissions=["clipboard-read", "clipboard-write"]
        )
        context.set_default_timeout(SLOWEST_MS)
        return context


def wait_ready(page: Page) -> None:
    """Wait until the page has loaded and the kept form is back in it."""
    page.locator("#prompt textarea").wait_for()
    page.locator("#model-line strong").wait_for()
    page.wait_for_function("window.croquisIsBack === true")


# What Gradio's own client logs when a page is left while an event of it is under way.
LEAVING = ("AbortError: signal is aborted", "Unexpected error Connection errored out")


# What the 3D viewer logs where there is no GPU, before it goes on with WebGL.
NO_GPU = "A fatal error occurred during WebGPU creation"


def _note(complaints: list[str], kind: str, text: str) -> None:
    if kind == "error" and not text.startswith(LEAVING) and NO_GPU not in text:
        complaints.append(f"console: {text}")


def _check_host(complaints: list[str], url: str) -> None:
    if not url.startswith(("http://127.0.0.1:", "data:", "blob:")):
        complaints.append(f"left the machine: {url}")
