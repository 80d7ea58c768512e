"""Takes one job from its request to its kept pictures."""

from __future__ import annotations

import functools
import importlib.metadata
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from PIL import Image

from pipelines.adapters import Adapters
from pipelines.device import pick_device
from pipelines.drawing import Drawn
from pipelines.editing import paste_back
from pipelines.encoder import PromptEncoder
from pipelines.lengths import notes_on_prompts
from pipelines.previews import small_jpeg
from pipelines.safety import Flaw, note_on, nothing_left
from pipelines.sources import AdapterSources
from pipelines.upscale import FACTOR, Upscaler
from pipelines.watching import JobWatcher
from pipelines.watermarks import keep_mark
from studio.errors import Cancelled
from studio.inputs import PREFIX

if TYPE_CHECKING:
    from pipelines.encoder import Embeddings
    from pipelines.loader import LoadedModel
    from pipelines.manager import PipelineManager
    from studio.jobs import Job
    from studio.request import GenerationRequest
    from studio.settings import Settings
    from studio.studio import Studio

LIBRARIES = ("torch", "diffusers", "transformers")

Draw = Callable[..., Iterator[Drawn]]
"""`pipelines.drawing.draw`, or what stands for it."""


class JobRunner:
    """Runs jobs, on the engine's thread. Several may be under way in turn.

    Args:
        draw: draws the pictures of a request.
        pause: lets other jobs go on in the middle of a long work.
        on_loaded: told which model a job is drawn with.
        is_closing: set when the server ends.
    """

    def __init__(
        self,
        studio: Studio,
        manager: PipelineManager,
        settings: Settings,
        draw: Draw,
        pause: Callable[[], None],
        on_loaded: Callable[[LoadedModel], None],
        is_closing: threading.Event,
    ) -> None:
        self._studio = studio
        self._manager = manager
        self._draw = draw
        self._pause = pause
        self._on_loaded = on_loaded
        self._is_closing = is_closing
        self._prompts = PromptEncoder(manager)
        sources = AdapterSources(studio.adapter_files, settings)
        self._adapters = Adapters(studio.controls, sources, manager, settings)
        self._upscaler = Upscaler(pick_device(settings))

    def run(self, job: Job) -> None:
        """Work on a job to its end. Whatever it raises ends the job, not the engine."""
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
        watcher = JobWatcher(self._studio, job.id, self._is_closing, self._pause)
        images = self._studio.images_of(job)
        marked = self._marked_start(job, images)
        said = self._encoded(request, watcher)
        with (
            self._borrowed(request, watcher) as (model, refiner),
            self._adapters.applied(model, request, images, job.owner, watcher) as adapted,
        ):
            loaded, request, images = adapted.loaded, adapted.request, adapted.images
            self._on_loaded(loaded)
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

    def _encoded(self, request: GenerationRequest, watcher: JobWatcher) -> Embeddings | None:
        """What the text encoder says that the model leaves to be freed before it, if it does."""
        reader = self._studio.catalogue.get_model(request.model).text_encoder
        return self._prompts.encode(reader, request, watcher.on_message) if reader else None

    @contextmanager
    def _borrowed(
        self, request: GenerationRequest, watcher: JobWatcher
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
        watcher = JobWatcher(self._studio, job.id, self._is_closing, self._pause)
        with Image.open(self._studio.parent(job).path) as kept:
            small = kept.convert("RGB")
        on_tile = functools.partial(watcher.on_tile, preview=small_jpeg(small))
        large = self._upscaler.enlarge(small, job.request.tiling, on_tile)
        self._studio.keep_enlarged(job.id, large)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the libraries that decide how a picture looks."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}
