"""Serves the real page with a real downloader: `python models_site.py SETTINGS PORT`.

SETTINGS is JSON of a `Settings`; the Hub is where HF_ENDPOINT says. Pictures are scribbled.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from pipelines.downloader import Downloader  # noqa: E402
from tests.browser import serve  # noqa: E402

if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    with serve(Path(settings.pop("data_dir")), port=int(sys.argv[2]), **settings) as site:
        downloader = Downloader(site.studio, site.studio.settings)
        downloader.start()
        while True:
            time.sleep(1)
