"""What a request adds to a model for itself alone: LoRAs, words, a control and a reference picture.

The model is shared and is never changed: all goes into twins of its modules. So there is nothing
to take back, whatever happens inside the block, and the same request without them draws the same
bits as if there had never been any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from pipelines.adapted import (
    Adapted,
    Sources,
    Watcher,
    added_bytes,
    own_pipeline,
    placed,
)
from pipelines.checkpoints import short_hash
from pipelines.device import pick_device
from pipelines.guiding import Guiding
from pipelines.lora import LoraFile, add_loras, check_loras
from pipelines.words import (
    EmbeddingFile,
    Word,
    check_embeddings,
    teach_words,
    unused_words,
    with_tokens,
)
from studio.adapters import Source, UploadedFile, parse_source, split_word
from studio.controls import Controls
from studio.request import GenerationRequest

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.loader import LoadedModel
    from pipelines.manager import PipelineManager
    from studio.settings import Settings

TEXT_PARTS = ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2")


@dataclass(frozen=True, slots=True)
class _Changed:
    """A model with files added, kept for the next request with the same ones."""

    key: tuple[object, ...]
    loaded: LoadedModel
    words: tuple[Word, ...]


class Adapters:
    """Adds to models what requests ask for. For one thread: the engine's."""

    def __init__(
        self,
        controls: Controls,
        sources: Sources,
        manager: PipelineManager,
        settings: Settings,
    ) -> None:
        self._controls = controls
        self._sources = sources
        self._manager = manager
        self._device = pick_device(settings)
        self._guiding = Guiding(controls, sources, manager, settings)
        self._last: WeakKeyDictionary[LoadedModel, _Changed] = WeakKeyDictionary()

    @contextmanager
    def applied(
        self,
        loaded: LoadedModel,
        request: GenerationRequest,
        images: Mapping[str, Image.Image],
        owner: str,
        watcher: Watcher,
    ) -> Iterator[Adapted]:
        """Lend the model with all that the request adds to it; `loaded` itself stays as it is.

        Raises:
            InvalidRequest: a file is for another base, of another kind, damaged, or does not fit.
            NotFound: an uploaded file is not this visitor's.
            ModelUnavailable: a file cannot be downloaded.
            OutOfMemory: it does not fit beside the model.
        """
        request = _without_weightless(request)
        self._controls.check(loaded.spec, request)
        changed = self._with_files(loaded, request, owner, watcher)
        for word in unused_words(request, changed.words):
            watcher.add_note(f"The word “{word}” of an embedding is in neither prompt: no effect.")
        adapted = Adapted(changed.loaded, with_tokens(request, changed.words), images)
        with ExitStack() as stack:
            yield self._guiding.guided(stack, adapted, watcher)

    def _with_files(
        self, loaded: LoadedModel, request: GenerationRequest, owner: str, watcher: Watcher
    ) -> _Changed:
        """The model with LoRAs and words; that of the last request if it had the same."""
        if not request.loras and not request.embeddings:
            return _Changed((), loaded, ())
        loras = self._loras(request, owner, watcher)
        embeddings = self._embeddings(request, owner, watcher)
        key = (*map(_identity, loras), *map(_identity, embeddings))
        last = self._last.get(loaded)
        if last is not None and last.key == key:
            return last
        self._forget(loaded)
        check_loras(loras, loaded.spec)
        check_embeddings(embeddings, loaded.spec)
        watcher.on_message("Adding " + ", ".join(file.name for file in (*loras, *embeddings)))
        names = {*loaded.pipeline._lora_loadable_modules} if loras else set()
        pipeline = own_pipeline(loaded, names | ({*TEXT_PARTS} if embeddings else set()))
        if loras:
            add_loras(pipeline, loras, loaded.spec)
        words = teach_words(pipeline, embeddings, loaded.spec)
        pipeline = placed(pipeline, loaded, self._device)
        revision = f"{loaded.revision}+{short_hash([one.path for one in (*loras, *embeddings)])}"
        changed = replace(loaded, pipeline=pipeline, revision=revision)
        self._last[loaded] = _Changed(key, changed, words)
        self._manager.count_added(loaded.spec.key, added_bytes(loaded, changed))
        return self._last[loaded]

    def _forget(self, loaded: LoadedModel) -> None:
        """Let go of what was added last, before more is."""
        if self._last.pop(loaded, None) is not None:
            self._manager.count_added(loaded.spec.key, 0)

    def _loras(self, request: GenerationRequest, owner: str, watcher: Watcher) -> list[LoraFile]:
        """In an order of its own: a sum of three has other last bits in another order."""
        files = []
        for lora in sorted(request.loras, key=lambda lora: (lora.source, lora.weight)):
            path, name = self._find(parse_source(lora.source), owner, watcher)
            files.append(LoraFile(path=path, name=name, weight=lora.weight))
        return files

    def _embeddings(
        self, request: GenerationRequest, owner: str, watcher: Watcher
    ) -> list[EmbeddingFile]:
        files = []
        for text in sorted(request.embeddings):
            source, word = split_word(text)
            path, name = self._find(parse_source(source, "embedding"), owner, watcher)
            files.append(EmbeddingFile(path=path, name=name, word=word))
        return files

    def _find(self, source: Source, owner: str, watcher: Watcher) -> tuple[Path, str]:
        if isinstance(source, UploadedFile):
            return self._sources.uploaded(source, owner)
        path = self._sources.fetched(source, watcher.on_message)
        return path, source.file or source.repository


def _without_weightless(request: GenerationRequest) -> GenerationRequest:
    """What has no weight is not even loaded."""
    control, reference = request.control, request.reference
    return replace(
        request,
        loras=tuple(lora for lora in request.loras if lora.weight),
        control=control if control and control.weight else None,
        reference=reference if reference and reference.weight else None,
    )


def _identity(file: LoraFile | EmbeddingFile) -> tuple[object, ...]:
    status = file.path.stat()
    return (file, status.st_mtime_ns, status.st_size)
