"""Draw the page's example pictures with the built-in model, and photograph the page for README.

`python -m lab.screenshot` writes assets/examples/*.webp and assets/screenshot.webp.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from lab.serving import CHROMIUM_FLAGS, find_chromium, wait_for_page
from studio.settings import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ASSETS = ROOT / "assets"
PORT = 7871
EXAMPLES = 5
"""Examples drawn for the photograph; the first of the file is drawn last and stays on the sheet."""
WIDE = {"width": 1280, "height": 800}


def main() -> None:
    """Draw, then photograph."""
    draw_examples()
    with running_app(PORT) as url:
        photograph(url, ASSETS / "screenshot.webp")


def draw_examples() -> None:
    """Draw every example of assets/examples.toml that names a picture, at its own seed."""
    from lab.crash import OWNER, start_studio
    from studio.settings import Settings

    examples = [example for example in read_examples() if example.get("image")]
    with tempfile.TemporaryDirectory() as folder:
        studio = start_studio(Settings.from_environment({"CROQUIS_DATA_DIR": folder}))
        for example in examples:
            request = studio.default_request("builtin", example["prompt"])
            job = studio.submit(request.with_seed(example["seed"]), OWNER)
            while studio.jobs(OWNER, active_only=True):
                time.sleep(0.05)
            picture = studio.picture(studio.job(job.id, OWNER).picture_ids[0], OWNER)
            save_small(picture.path, ASSETS / example["image"])
        studio.close()


def read_examples() -> list[dict[str, Any]]:
    """The tables of assets/examples.toml."""
    text = (ASSETS / "examples.toml").read_text(encoding="utf-8")
    return list(tomllib.loads(text)["example"])


def save_small(picture: Path, target: Path) -> None:
    """Save a picture as WebP for the page; the settings stay in examples.toml."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(picture) as image:
        image.convert("RGB").save(target, "WEBP", quality=88, method=6)
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size:,} bytes")


@contextmanager
def running_app(port: int) -> Iterator[str]:
    """app.py on an empty data folder; gives its address once it answers."""
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "CROQUIS_DATA_DIR": folder, "CROQUIS_PORT": str(port)}
        app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environ)
        try:
            wait_for_page(url, app)
            yield url
        finally:
            app.terminate()
            app.wait(30)


def photograph(url: str, target: Path) -> None:
    """Click on examples as a visitor would, then take the page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport=WIDE, color_scheme="light")
        page.goto(url)
        for number in range(EXAMPLES):
            page.locator("[data-event=example]").nth(EXAMPLES - 1 - number).click()
            page.locator(".strip img").nth(number).wait_for(timeout=120_000)
        page.mouse.wheel(0, -10_000)
        page.wait_for_timeout(1000)
        shot = Path(folder) / "page.png"
        page.screenshot(path=shot)
        browser.close()
        with Image.open(shot) as image:
            image.convert("RGB").save(target, "WEBP", quality=90, method=6)


if __name__ == "__main__":
    main()
