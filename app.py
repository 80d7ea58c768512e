"""Composition root: settings -> engine -> studio -> page and routes -> serve."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.errors import CroquisError
from studio.settings import Settings
from studio.studio import Studio

if TYPE_CHECKING:
    import uvicorn

    from pipelines.downloader import Downloader
    from pipelines.engine import Engine
    from pipelines.manager import PipelineManager

GRACE_S = 3
"""An open tab keeps a stream open; a server that is told to stop waits so long for it."""

log = logging.getLogger("croquis")


def main() -> int:
    """Serve the app until it is interrupted; returns the exit status."""
    gc.disable()  # until `keep_imports`
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        settings = Settings.from_environment({**space_environment(), **os.environ})
        catalogue = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings)
        studio = Studio(settings, catalogue)
        studio.start()
    except CroquisError as exc:
        print(f"Croquis cannot start. {exc}", file=sys.stderr)
        return 2
    return serve(studio, settings)


def space_environment() -> dict[str, str]:
    """What a Hugging Face Space needs, where this process runs in one: it listens to the proxy."""
    return {"CROQUIS_HOST": "0.0.0.0"} if "SPACE_ID" in os.environ else {}


def serve(studio: Studio, settings: Settings) -> int:
    """Serve the page in a thread of its own, draw until a signal ends it; the exit status."""
    import uvicorn

    from api.server import build_server

    config = uvicorn.Config(
        build_server(studio),
        settings.host,
        settings.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = uvicorn.Server(config)
    serving = threading.Thread(target=server.run, name="croquis-server")
    stop_on_signals(server)
    serving.start()
    try:
        return draw(studio, settings, server, serving)
    finally:
        server.should_exit = True
        serving.join()
        studio.close()


def stop_on_signals(server: uvicorn.Server) -> None:
    """Let Ctrl+C and a container's SIGTERM close the studio in order: what runs is queued again."""

    def stop(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


def draw(
    studio: Studio, settings: Settings, server: uvicorn.Server, serving: threading.Thread
) -> int:
    """Start the engine once the page is served, and close it when the server has ended."""
    while serving.is_alive() and not server.started:
        time.sleep(0.02)
    if not server.started:
        return 2  # uvicorn has said why: the port is taken
    port = server.servers[0].sockets[0].getsockname()[1]
    log.info("Croquis is at http://%s:%d", settings.host, port)
    downloader = start_downloader(studio, settings)
    try:
        engine = start_engine(studio, settings)
    except CroquisError as exc:
        log.error("Croquis cannot draw. %s", exc)
        return 2
    keep_imports()
    while serving.is_alive():
        serving.join(1.0)
    engine.close()
    downloader.close()
    return 0


def keep_imports() -> None:
    """Let the garbage collector never look at what has been imported by now.

    That is near a million objects, none of which ends before the process: looking for garbage
    among them takes a fifth of the start, and later half a second between two steps.
    """
    gc.freeze()
    gc.enable()


def start_downloader(studio: Studio, settings: Settings) -> Downloader:
    """Fetch what the Models tab asks for; it waits neither for torch nor for the engine."""
    from pipelines.downloader import Downloader

    downloader = Downloader(studio, settings)
    downloader.start()
    return downloader


def start_engine(studio: Studio, settings: Settings) -> Engine:
    """Import torch, which takes seconds, load the default model and take jobs.

    On your own machine models are loaded when they are wanted. A ZeroGPU Space lends its GPU for
    one call at a time, and wants all models there before the first.
    """
    is_lent = "SPACES_ZERO_GPU" in os.environ
    if is_lent:
        import spaces  # before torch, whose CUDA it takes the place of
    from pipelines.acceleration import allow_tf32, pick_denoise
    from pipelines.control import made_here
    from pipelines.device import pick_budget, pick_device
    from pipelines.engine import Engine
    from pipelines.holding import machine_of
    from pipelines.loader import Loader
    from pipelines.manager import PipelineManager
    from pipelines.parking import pick_parking

    studio.set_control_maker(made_here)
    studio.set_machine(machine_of(pick_device(settings)))
    manager = PipelineManager(
        studio.catalogue,
        Loader(settings),
        pick_budget(pick_device(settings), settings),
        on_state=studio.set_model_state,
        parking=pick_parking(pick_device(settings), settings),
    )
    allow_tf32(settings)
    denoise = pick_denoise(settings, pick_device(settings))
    engine = Engine(studio, manager, settings, denoise=denoise)
    if is_lent:
        engine = preloaded_engine(studio, manager, settings, spaces.GPU)
    engine.start()
    engine.warm(settings.model)
    return engine


def preloaded_engine(
    studio: Studio, manager: PipelineManager, settings: Settings, decorate: Callable[..., Any]
) -> Engine:
    """An engine whose models are loaded now and never let go; `decorate` is `spaces.GPU`."""
    from pipelines.engine import Engine
    from pipelines.zero_gpu import ZeroGpu

    lent = ZeroGpu(decorate, studio.seconds)
    lent.preload(manager, settings.preload or (settings.model,))
    return Engine(studio, manager, settings, draw=lent.draw)


if __name__ == "__main__":
    sys.exit(main())
