"""The web server: the visitor's cookie, the picture routes and the page, in one ASGI app."""

from __future__ import annotations

import os
from pathlib import Path

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles
from studio.studio import Studio

from api.counting import build_counting_routes
from api.inputs import build_input_routes
from api.limits import BodyLimitMiddleware
from api.pictures import build_picture_routes
from api.visitor import VisitorMiddleware

OWN_FILE, STRANGERS_FILE = "2gb", "64mb"
"""Of an upload: a LoRA for SDXL has up to a gigabyte, a picture has not."""
ASSETS = Path(__file__).resolve().parent.parent / "assets"


def build_server(studio: Studio) -> FastAPI:
    """Build the app; side effect: Gradio's analytics are off for this process."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    from ui.stubless import import_gradio

    gr = import_gradio()  # before the page's own modules, which import it by its name
    from ui.blocks import build_blocks, build_head, build_theme

    app = FastAPI(title="Croquis", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(VisitorMiddleware)
    app.add_middleware(BodyLimitMiddleware)
    app.include_router(build_picture_routes(studio))
    app.include_router(build_input_routes(studio))
    app.include_router(build_counting_routes(studio))
    app.mount("/examples", StaticFiles(directory=ASSETS / "examples", check_dir=False))
    blocks = build_blocks(studio)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=build_theme(),
        head=build_head(),
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=OWN_FILE if studio.settings.lets_manage_models else STRANGERS_FILE,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
    )
    # Mounted blocks count as not launched, and then Gradio opens whatever path of this machine
    # a request names as its upload.
    blocks.has_launched = True
    return app
