"""What a request adds to a model for itself alone: LoRAs, words, a control and a reference picture.

The model is shared and is never changed: all goes into twins of its modules. So there is nothing
to take back, whatever happens inside the block, and the same request without them draws the same
bits as if there had never been any.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import diffusers
from diffusers import DiffusionPipeline
from torch import nn

from pipelines.control import control_picture
from pipelines.device import pick_device, pick_dtype
from pipelines.guides import GuideFiles, load_guide
from pipelines.holding import place
from pipelines.loader import short_hash
from pipelines.lora import LoraFile, add_loras, check_loras
from pipelines.shells import build_shell
from pipelines.twins import is_grouped, is_offloaded, twin_of
from pipelines.words import (
    EmbeddingFile,
    Word,
    check_embeddings,
    teach_words,
    unused_words,
    with_tokens,
)
from studio.adapters import HubFile, Source, UploadedFile, parse_source, split_word
from studio.controls import CLASSES, REFERENCE, Controls
from studio.errors import InvalidRequest, ModelUnavailable
from studio.request import GenerationRequest

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.guides import ControlNet, DepthEstimator, IPAdapter
    from pipelines.loader import LoadedModel
    from pipelines.manager import PipelineManager
    from studio.controls import ControlSpec
    from studio.settings import Settings

DEPTH = "input-" + "d" * 64
"""Id of a depth picture that was made; no uploaded file has it."""
TEXT_PARTS = ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2")


class Sources(Protocol):
    """Where the files are that requests name."""

    def uploaded(self, file: UploadedFile, owner: str) -> tuple[Path, str]:
        """A visitor's own file, and what it was called; raises NotFound."""

    def fetched(self, file: HubFile, on_message: Callable[[str], None]) -> Path:
        """A file of the Hub, downloaded if it is not here; raises ModelUnavailable."""


class Watcher(Protocol):
    """Who follows the request."""

    def on_message(self, text: str) -> None:
        """Told what takes its time."""

    def add_note(self, text: str) -> None:
        """Told what the visitor should know."""


@dataclass(frozen=True, slots=True)
class Adapted:
    """What to draw with, and what."""

    loaded: LoadedModel
    request: GenerationRequest
    images: Mapping[str, Image.Image]


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
        self._settings = settings
        self._device = pick_device(settings)
        self._dtype = pick_dtype(self._device, settings)
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
            yield self._guided(stack, adapted, watcher)

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
        self._last.pop(loaded, None)
        check_loras(loras, loaded.spec)
        check_embeddings(embeddings, loaded.spec)
        watcher.on_message("Adding " + ", ".join(file.name for file in (*loras, *embeddings)))
        names = {*loaded.pipeline._lora_loadable_modules} if loras else set()
        pipeline = _own(loaded, names | ({*TEXT_PARTS} if embeddings else set()))
        if loras:
            add_loras(pipeline, loras, loaded.spec)
        words = teach_words(pipeline, embeddings, loaded.spec)
        pipeline = _placed(pipeline, loaded, self._device)
        revision = f"{loaded.revision}+{short_hash([one.path for one in (*loras, *embeddings)])}"
        changed = replace(loaded, pipeline=pipeline, revision=revision)
        self._last[loaded] = _Changed(key, changed, words)
        return self._last[loaded]

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

    def _guided(self, stack: ExitStack, adapted: Adapted, watcher: Watcher) -> Adapted:
        """The model with its ControlNet and IP-Adapter, as long as the stack is open."""
        request, spec = adapted.request, adapted.loaded.spec
        if request.control is not None:
            adapted = self._with_depth(stack, adapted, watcher)
            net: ControlNet = self._borrow(stack, request.control.kind, adapted, watcher)
            classes = CLASSES[spec.pipeline_class]
            offered = {name: cls for name, cls in classes.items() if getattr(spec, name)}
            pipeline = _controlled(adapted.loaded, offered["pipeline_class"], net)
            adapted = replace(
                adapted,
                loaded=replace(adapted.loaded, pipeline=pipeline, spec=replace(spec, **offered)),
            )
        if request.reference is not None:
            guide: IPAdapter = self._borrow(stack, REFERENCE, adapted, watcher)
            pipeline = _referring(adapted.loaded, guide, request.reference.weight)
            pipeline = _placed(pipeline, adapted.loaded, self._device)
            adapted = replace(adapted, loaded=replace(adapted.loaded, pipeline=pipeline))
        return adapted

    def _with_depth(self, stack: ExitStack, adapted: Adapted, watcher: Watcher) -> Adapted:
        """The depth of the control picture, estimated if it is none yet."""
        request = adapted.request
        control = request.control
        if control is None or control.kind != "depth" or control.is_ready:
            return adapted
        estimator: DepthEstimator = self._borrow(stack, "depth_estimator", adapted, watcher)
        size = (request.width, request.height)
        made = control_picture(
            "depth", adapted.images[control.picture], size, is_ready=False, depth=estimator
        )
        ready = replace(control, picture=DEPTH, is_ready=True)
        images = {**adapted.images, DEPTH: made}
        return replace(adapted, request=replace(request, control=ready), images=images)

    def _borrow(self, stack: ExitStack, kind: str, adapted: Adapted, watcher: Watcher) -> Any:
        """Borrow a network for the model; it is given back when the stack closes."""
        spec = self._controls.find(adapted.loaded.spec, kind)
        if spec is None:
            raise ModelUnavailable(f"There is no network for {kind} pictures on this machine.")
        lent = self._manager.borrow_part(
            spec.key,
            f"what follows a {kind} picture",
            lambda: self._files(spec, watcher.on_message),
            lambda files: load_guide(files, self._device, self._dtype),
            watcher.on_message,
        )
        return stack.enter_context(lent)

    def _files(self, spec: ControlSpec, on_message: Callable[[str], None]) -> GuideFiles:
        """The files of a network: the host's own, or the Hub's."""
        folder = spec.local_path(self._settings)
        if folder is not None:
            paths = tuple(folder / name for name in spec.files)
            missing = [path.name for path in paths if not path.is_file()]
            if missing:
                raise ModelUnavailable(
                    f"The folder “{folder.name}” of `{spec.key}` lacks {', '.join(missing)}."
                )
            return GuideFiles(spec=spec, paths=paths)
        files = [HubFile(repository=str(spec.repository), file=name) for name in spec.files]
        paths = tuple(self._sources.fetched(file, on_message) for file in files)
        return GuideFiles(spec=spec, paths=paths)


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


def _own(loaded: LoadedModel, names: set[str]) -> DiffusionPipeline:
    """A pipeline in which the components with these names are this request's own.

    Of an offloaded model all are: the hooks that move them know each other.
    """
    shared = loaded.pipeline.components
    if is_grouped(loaded.pipeline):
        raise InvalidRequest(
            f"{loaded.spec.title} is held in this machine's memory layer by layer, and so takes no "
            f"LoRA, embedding or reference picture here. Choose a smaller model."
        )
    if is_offloaded(loaded.pipeline):
        names = names | {name for name, part in shared.items() if isinstance(part, nn.Module)}
    parts = {
        name: twin_of(part) if isinstance(part, nn.Module) else copy.deepcopy(part)
        for name in names
        if (part := shared.get(name)) is not None
    }
    return build_shell(loaded, parts=parts)


def _placed(pipeline: DiffusionPipeline, loaded: LoadedModel, device: str) -> DiffusionPipeline:
    """Give a pipeline of twins the hooks that its first has."""
    return place(pipeline, "offload", device) if is_offloaded(loaded.pipeline) else pipeline


def _controlled(loaded: LoadedModel, class_name: str, net: ControlNet) -> DiffusionPipeline:
    pipeline_class = getattr(diffusers, class_name)
    return build_shell(loaded, pipeline_class=pipeline_class, parts={"controlnet": net.module})


def _referring(loaded: LoadedModel, guide: IPAdapter, weight: float) -> DiffusionPipeline:
    """A pipeline whose U-Net looks at a picture too."""
    own = loaded.pipeline.components.get("feature_extractor")
    pipeline = _own(loaded, {"unet"})
    pipeline.register_modules(
        image_encoder=guide.image_encoder, feature_extractor=own or guide.feature_extractor
    )
    pipeline.load_ip_adapter(
        {part: dict(tensors) for part, tensors in guide.weights.items()},
        subfolder="",
        weight_name="",
        image_encoder_folder=None,
    )
    pipeline.set_ip_adapter_scale(weight)
    return pipeline
