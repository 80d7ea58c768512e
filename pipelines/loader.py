"""The only place that loads a checkpoint.

Only safetensors are read and no remote code is run.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipelines import encoder
from pipelines.checkpoints import Checkpoint, OnMessage, damage_reported
from pipelines.device import pick_device, pick_dtype
from pipelines.families import family_of
from pipelines.finding import Finder
from pipelines.latents import AUTOENCODERS
from pipelines.previews import PIXELS, PreviewMap, fit_preview

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

    from pipelines.encoder import TextEncoder
    from studio.settings import Settings
    from studio.specs import ModelSpec

PIXEL_PIPELINES = (
    "IFPipeline",
    "IFSuperResolutionPipeline",
    "UnCLIPImageVariationPipeline",
    "UnCLIPPipeline",
)
"""Those whose denoisers see pixels instead of latents."""

ONE_LOAD = threading.Lock()
"""While a model loads, accelerate and transformers patch torch for the whole process: a second
load beside it, and any module built meanwhile, would be left without weights."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in memory. Its pipeline is never called: `drawing` builds a shell for each call."""

    spec: ModelSpec
    pipeline: DiffusionPipeline
    scheduler_config: Mapping[str, Any]
    """The checkpoint's ORIGINAL config, which every scheduler is built from; {} if it has none."""
    revision: str
    nbytes: int
    """Bytes of its parameters and buffers."""
    preview_map: PreviewMap | None
    """None if its latents cannot be shown."""

    @property
    def scheduler(self) -> type[SchedulerMixin] | None:
        """The class of the checkpoint's own scheduler."""
        own = self.pipeline.components.get("scheduler")
        return type(own) if own is not None else None


class Loader:
    """Finds and loads checkpoints for one device and dtype."""

    def __init__(self, settings: Settings) -> None:
        self.device = pick_device(settings)
        self.dtype = pick_dtype(self.device, settings)
        self._settings = settings
        self._finder = Finder(settings, self.device, self.dtype)
        _silence()

    def find(self, spec: ModelSpec, on_message: OnMessage) -> Checkpoint:
        """As `Finder.find`."""
        return self._finder.find(spec, on_message)

    def find_encoder(self, spec: ModelSpec, on_message: OnMessage) -> Checkpoint:
        """As `Finder.find_encoder`."""
        return self._finder.find_encoder(spec, on_message)

    def load_encoder(self, checkpoint: Checkpoint) -> TextEncoder:
        """Load the text encoder of a checkpoint alone; raises as `load` does."""
        with ONE_LOAD, damage_reported(checkpoint.spec, checkpoint.folder):
            return encoder.load_encoder(checkpoint, self.device, self.dtype)

    def load(self, checkpoint: Checkpoint) -> LoadedModel:
        """Load a checkpoint from its folder to the device.

        Raises:
            ModelUnavailable: files are missing or damaged.
            OutOfMemory: the device cannot hold it.
        """
        spec = checkpoint.spec
        family = family_of(spec.backend)
        with ONE_LOAD, damage_reported(spec, checkpoint.folder, checkpoint.lora):
            dtype = pick_dtype(self.device, self._settings, spec.gpu_dtype)
            pipeline = family.load_pipeline(checkpoint, self.device, dtype)
            if checkpoint.lora is not None:
                _fuse_lora(pipeline, checkpoint.lora)
        return LoadedModel(
            spec=spec,
            pipeline=pipeline,
            scheduler_config=_scheduler_config(pipeline),
            revision=checkpoint.revision,
            nbytes=_count_bytes(pipeline) or checkpoint.nbytes,
            preview_map=_preview_map(pipeline),
        )


def _scheduler_config(pipeline: DiffusionPipeline) -> dict[str, Any]:
    scheduler = pipeline.components.get("scheduler")
    return dict(scheduler.config) if scheduler is not None else {}


def _preview_map(pipeline: DiffusionPipeline) -> PreviewMap | None:
    if type(pipeline).__name__ in PIXEL_PIPELINES:
        return PIXELS
    vae = pipeline.components.get("vae") or pipeline.components.get("movq")
    return fit_preview(vae) if isinstance(vae, AUTOENCODERS) else None


def _silence() -> None:
    """Keep what the libraries would print for every picture out of the log."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def _count_bytes(pipeline: DiffusionPipeline) -> int:
    modules = (part for part in pipeline.components.values() if isinstance(part, torch.nn.Module))
    return sum(
        tensor.nbytes for module in modules for tensor in (*module.parameters(), *module.buffers())
    )


def _fuse_lora(pipeline: DiffusionPipeline, weights: Path) -> None:
    """Add a LoRA to the modules' own weights for good; nothing of its layers is left behind.

    Raises:
        ValueError: not all of it fits this model, which diffusers would only log.
    """
    from safetensors import safe_open

    pipeline.load_lora_weights(
        weights.parent, weight_name=weights.name, use_safetensors=True, local_files_only=True
    )
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    fitted = sum("lora_" in name for part in parts for name, _ in part.named_parameters())
    with safe_open(weights, framework="pt") as tensors:
        wanted = sum(not name.endswith(".alpha") for name in tensors.keys())  # noqa: SIM118
    if fitted != wanted:
        raise ValueError(f"{wanted - fitted} of {wanted} tensors of the LoRA have no place")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
