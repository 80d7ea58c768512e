"""Lets a model follow pictures: a control picture by a ControlNet, a reference by an IP-Adapter."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import diffusers
from diffusers import DiffusionPipeline

from pipelines.adapted import Adapted, Sources, Watcher, own_pipeline, placed
from pipelines.control import control_picture
from pipelines.device import pick_device, pick_dtype
from pipelines.guides import GuideFiles, load_guide
from pipelines.shells import build_shell
from studio.adapters import HubFile
from studio.controls import CLASSES, REFERENCE, Controls
from studio.errors import ModelUnavailable

if TYPE_CHECKING:
    from pipelines.guides import ControlNet, DepthEstimator, IPAdapter
    from pipelines.loader import LoadedModel
    from pipelines.manager import PipelineManager
    from studio.controls import ControlSpec
    from studio.settings import Settings

DEPTH = "input-" + "d" * 64
"""Id of a depth picture that was made; no uploaded file has it."""


class Guiding:
    """Borrows the networks that requests want beside a model. For one thread: the engine's."""

    def __init__(
        self, controls: Controls, sources: Sources, manager: PipelineManager, settings: Settings
    ) -> None:
        self._controls = controls
        self._sources = sources
        self._manager = manager
        self._settings = settings
        self._device = pick_device(settings)
        self._dtype = pick_dtype(self._device, settings)

    def guided(self, stack: ExitStack, adapted: Adapted, watcher: Watcher) -> Adapted:
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
            pipeline = placed(pipeline, adapted.loaded, self._device)
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


def _controlled(loaded: LoadedModel, class_name: str, net: ControlNet) -> DiffusionPipeline:
    pipeline_class = getattr(diffusers, class_name)
    return build_shell(loaded, pipeline_class=pipeline_class, parts={"controlnet": net.module})


def _referring(loaded: LoadedModel, guide: IPAdapter, weight: float) -> DiffusionPipeline:
    """A pipeline whose U-Net looks at a picture too."""
    own = loaded.pipeline.components.get("feature_extractor")
    pipeline = own_pipeline(loaded, {"unet"})
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
