"""One thread per device: takes jobs from the studio, draws them, hands the pictures back."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from pipelines.adapters import Adapters
from pipelines.device import pick_device, tune_threads
from pipelines.drawing import Drawn, draw
from pipelines.editing import paste_back
from pipelines.encoder import PromptEncoder
from pipelines.lengths import notes_on_prompts
from pipelines.previews import small_jpeg
from pipelines.safety import Flaw, note_on, nothing_left
from pipelines.sources import AdapterSources
from pipelines.upscale import FACTOR, Upscaler
from pipelines.watermarks import keep_mark
from studio.errors import Cancelled, CroquisError
from studio.inputs import PREFIX

if TYPE_CHECKING:
    from pipelines.encoder import Embeddings
    from pipelines.loader import LoadedModel
    from pipelines.manager import PipelineManager
    from studio.jobs import Job
    from studio.request import GenerationRequest
    from studio.settings import Settings
    from studio.studio import Studio

POLL_S = 0.5
LIBRARIES = ("torch", "diffusers", "transformers")

log = logging.getLogger(__name__)


class Engine:
    """Draws the studio's jobs, one after the other, on one device."""

    def __init__(
        self,
        studio: Studio,
        manager: PipelineManager,
        settings: Settings,
        draw: Callable[..., Iterator[Drawn]] = draw,
    ) -> None:
        self._studio = studio
        self._draw = draw
        self._manager = manager
        self._settings = settings
        self._prompts = PromptEncoder(manager)
        sources = AdapterSources(studio.adapter_files, settings)
        self._adapters = Adapters(studio.controls, sources, manager, settings)
        self._upscaler = Upscaler(pick_device(settings))
        self._to_warm: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="croquis-engine", daemon=True)

    def start(self) -> None:
        """Begin to take jobs; returns at once."""
        self._thread.start()

    def warm(self, key: str) -> None:
        """Load a model when no job waits, so that the first picture need not wait for it."""
        self._to_warm.put(key)

    def close(self) -> None:
        """Stop after the current step, and free the models. What was running is queued again."""
        self._is_closing.set()
        self._thread.join()
        self._manager.close()

    def _run(self) -> None:
        """Work until closed. Models are loaded here too: that changes torch's global state."""
        tune_threads(self._settings)
        while not self._is_closing.is_set():
            try:
                self._work()
            except Exception:
                log.exception("The engine could not take or load anything; it tries again")
                self._is_closing.wait(POLL_S)

    def _work(self) -> None:
        """Draw a job; if none waits, load a model in advance."""
        job = self._studio.take(POLL_S if self._to_warm.empty() else 0)
        if job is not None:
            self._draw_job(job)
        elif not self._to_warm.empty():
            self._load(self._to_warm.get())

    def _load(self, key: str) -> None:
        try:
            with self._manager.borrow(key, self._stop_if_closing):
                log.info("%s is ready", key)
        except CroquisError as exc:
            log.warning("%s was not loaded in advance: %s", key, exc)

    def _stop_if_closing(self, message: str) -> None:
        if self._is_closing.is_set():
            raise Cancelled("Croquis is shutting down.")

    def _draw_job(self, job: Job) -> None:
        """Draw one job to its end. Whatever it raises ends the job, not the engine."""
        try:
            if job.enlargement is None:
                self._draw_pictures(job)
            else:
                self._enlarge_picture(job)
        except Cancelled:
            if not self._is_closing.is_set():
                self._studio.cancelled(job.id)
        except Exception as exc:
            self._studio.fail(job.id, exc)
        else:
            self._studio.finish(job.id)

    def _draw_pictures(self, job: Job) -> None:
        request = job.request
        kept = self._studio.kept_indices(job.id)
        indices = [index for index in range(request.num_images) if index not in kept]
        watcher = _JobWatcher(self._studio, job.id, self._is_closing)
        images = self._studio.images_of(job)
        marked = self._marked_start(job, images)
        said = self._encoded(request, watcher)
        with (
            self._borrowed(request, watcher) as (model, refiner),
            self._adapters.applied(model, request, images, job.owner, watcher) as adapted,
        ):
            loaded, request, images = adapted.loaded, adapted.request, adapted.images
            for note in notes_on_prompts(loaded, request):
                self._studio.add_note(job.id, note)
            scheduler_spec = self._studio.catalogue.get_scheduler(request.scheduler)
            flaws = []
            given = (loaded, scheduler_spec, request, indices, watcher, images, refiner, said)
            for drawn in self._draw(*given):
                image = drawn.image
                if isinstance(image, Flaw):
                    self._studio.add_note(job.id, note_on(image, drawn.index))
                    flaws.append(image)
                    continue
                if request.upscale == FACTOR:
                    on_tile = watcher.on_tile_of(drawn.index, small_jpeg(image))
                    image = self._upscaler.enlarge(image, request.tiling, on_tile)
                image = paste_back(image, request, images)
                if marked is not None:
                    image = keep_mark(image, marked)
                revision, extra = loaded.revision, drawn.attachments
                self._studio.keep(job.id, drawn.index, image, revision, versions(), extra)
        if len(flaws) == request.num_images:
            raise nothing_left(flaws)

    def _marked_start(self, job: Job, images: Mapping[str, Image.Image]) -> Image.Image | None:
        """The picture that is drawn larger, if its model's watermark must stay in it."""
        start, models = job.request.start, self._studio.catalogue.models
        if start is None or start.task != "upscaling" or start.picture.startswith(PREFIX):
            return None
        parent = self._studio.picture(start.picture, job.owner).recipe.request.model
        if parent not in models or not models[parent].watermark:
            return None
        return None if models[job.request.model].watermark else images[start.picture]

    def _encoded(self, request: GenerationRequest, watcher: _JobWatcher) -> Embeddings | None:
        """What the text encoder says that the model leaves to be freed before it, if it does."""
        reader = self._studio.catalogue.get_model(request.model).text_encoder
        return self._prompts.encode(reader, request, watcher.on_message) if reader else None

    @contextmanager
    def _borrowed(
        self, request: GenerationRequest, watcher: _JobWatcher
    ) -> Iterator[tuple[LoadedModel, LoadedModel | None]]:
        """The model of a request, and its refiner if the request wants one."""
        with ExitStack() as stack:
            keys = [request.model]
            if request.refiner:
                keys += [self._studio.catalogue.get_model(request.model).refiner or ""]
            models = [
                stack.enter_context(self._manager.borrow(key, watcher.on_message)) for key in keys
            ]
            yield models[0], models[1] if request.refiner else None

    def _enlarge_picture(self, job: Job) -> None:
        """Enlarge a kept picture. No model is needed for that."""
        if self._studio.kept_indices(job.id):
            return
        watcher = _JobWatcher(self._studio, job.id, self._is_closing)
        with Image.open(self._studio.parent(job).path) as kept:
            small = kept.convert("RGB")
        preview = small_jpeg(small)

        def on_tile(done: int, total: int) -> None:
            watcher.stop_if_cancelled()
            watcher.on_step(done, total, 0, preview, batch=1)

        large = self._upscaler.enlarge(small, job.request.tiling, on_tile)
        self._studio.keep_enlarged(job.id, large)


@dataclass(frozen=True, slots=True)
class _JobWatcher:
    """Passes what happens in a drawing on to the studio."""

    studio: Studio
    job_id: str
    is_closing: threading.Event

    def is_cancelled(self) -> bool:
        return self.is_closing.is_set() or self.studio.is_cancelled(self.job_id)

    def on_message(self, text: str) -> None:
        """Show why the job does not draw yet; a download too stops when the job is cancelled."""
        self.stop_if_cancelled()
        self.studio.report_loading(self.job_id, text)

    def stop_if_cancelled(self) -> None:
        """Raise Cancelled if the visitor, or the end of the server, wants it."""
        if self.is_cancelled():
            raise Cancelled("Stopped.")

    def on_step(
        self, step: int, total_steps: int, image_index: int, preview: bytes | None, batch: int
    ) -> None:
        self.studio.report_step(self.job_id, step, total_steps, image_index, preview, batch)

    def on_tile_of(self, image_index: int, preview: bytes) -> Callable[[int, int], None]:
        """What the upscaler tells of a drawn picture, shown as it goes; it may stop there."""

        def on_tile(done: int, total: int) -> None:
            self.stop_if_cancelled()
            self.studio.report_enlarging(self.job_id, done, total, image_index, preview)

        return on_tile

    def add_note(self, text: str) -> None:
        self.studio.add_note(self.job_id, text)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the libraries that decide how a picture looks."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}
