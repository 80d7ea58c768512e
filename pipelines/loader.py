"""The only place that loads a checkpoint: from a local folder, or from the Hub.

Only safetensors are read and no remote code is run.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipelines import encoder, hub
from pipelines.device import is_out_of_memory, pick_device, pick_dtype
from pipelines.families import dalle_mega, family_of
from pipelines.holding import plan_for
from pipelines.latents import AUTOENCODERS
from pipelines.previews import PIXELS, PreviewMap, fit_preview
from studio.errors import ModelUnavailable, OutOfMemory
from studio.hosting import provider_of
from studio.recipes import LOCAL
from studio.specs import TEXT_ENCODER

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

    from pipelines.encoder import TextEncoder
    from studio.hosting import Provider
    from studio.plans import Holding
    from studio.settings import Settings
    from studio.specs import ModelSpec

PICKLE_SUFFIXES = {".bin", ".ckpt", ".pt", ".pth"}

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

OnMessage = Callable[[str], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The files of a model, found on this machine."""

    spec: ModelSpec
    folder: Path
    revision: str
    """"<repository>@<commit>" of the Hub, or "local@<hash of the weights>" of a folder."""
    variant: str | None
    nbytes: int
    """Bytes that the weights will take when loaded."""
    prior: Path | None = None
    """The folder of the second checkpoint that some models need."""
    lora: Path | None = None
    """The file of a LoRA that is fused into its weights."""
    holding: Holding = "full"
    """Where its modules are while they do not work."""
    provider: Provider | None = None
    """Who draws in the place of this machine, which then has no files of it."""


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
        self._encoders: dict[str, Checkpoint] = {}
        _silence()

    def find(self, spec: ModelSpec, on_message: OnMessage) -> Checkpoint:
        """Find the checkpoint's files, and download them if they are not here.

        Raises:
            ModelUnavailable: no folder and no source has it, or only in pickle files.
        """
        if spec.backend == "hosted":
            provider = provider_of(self._settings)
            at = f"{spec.sources[0]}@hosted"
            return Checkpoint(spec, Path(), at, variant=None, nbytes=0, provider=provider)
        local = spec.local_path(self._settings)
        if local is not None:
            folder, revision = local, None
        else:
            folder, revision = hub.fetch(spec, self._settings, on_message)
        if spec.backend == "min_dalle":
            kept = self._settings.data_dir / "converted"
            folder = dalle_mega.converted(spec, folder, kept, on_message)
        _check_folder(spec, folder)
        prior = self._find_prior(spec, folder, on_message)
        lora = self._find_lora(spec, folder, on_message)
        weights = hub.weight_files(folder, spec.variant)
        if not spec.reads_itself:
            weights = [path for path in weights if path.parent.name != TEXT_ENCODER]
        variant = spec.variant if any(hub.is_of(path, spec.variant) for path in weights) else None
        weights += hub.weight_files(prior, variant) if prior else []
        staying = [
            one for one in weights if not spec.text_encoder or one.parent.name != TEXT_ENCODER
        ]
        with _damage_reported(spec, folder):
            nbytes = sum(_count_elements(path) for path in staying) * self.dtype.itemsize
            return Checkpoint(
                spec=spec,
                folder=folder,
                revision=_revision(revision, weights, lora),
                variant=variant,
                nbytes=nbytes,
                prior=prior,
                lora=lora,
                holding=self._holding(spec, nbytes),
            )

    def _holding(self, spec: ModelSpec, nbytes: int) -> Holding:
        """Raises OutOfMemory before anything is loaded that would take the machine down."""
        plan = plan_for(spec, nbytes, self.device)
        if plan.holding == "none":
            raise OutOfMemory(f"{spec.title} is {plan.label}. Choose a smaller model.")
        return plan.holding

    def find_encoder(self, spec: ModelSpec, on_message: OnMessage) -> Checkpoint:
        """The same as `find` for the text encoder alone: `nbytes` are its own.

        It comes and goes with every new prompt: a folder's weights are not hashed each time.

        Raises:
            ModelUnavailable: the checkpoint cannot be had.
        """
        if spec.key in self._encoders:
            return self._encoders[spec.key]
        checkpoint = self.find(spec, on_message)
        weights = hub.part_weights(checkpoint.folder / TEXT_ENCODER, checkpoint.variant)
        each = encoder.bytes_per_weight(self.device, self.dtype)
        with _damage_reported(spec, checkpoint.folder):
            nbytes = sum(_count_elements(path) for path in weights) * each
        self._encoders[spec.key] = replace(checkpoint, nbytes=nbytes)
        return self._encoders[spec.key]

    def load_encoder(self, checkpoint: Checkpoint) -> TextEncoder:
        """Load the text encoder of a checkpoint alone; raises as `load` does."""
        with ONE_LOAD, _damage_reported(checkpoint.spec, checkpoint.folder):
            return encoder.load_encoder(checkpoint, self.device, self.dtype)

    def _find_prior(self, spec: ModelSpec, folder: Path, on_message: OnMessage) -> Path | None:
        """The second checkpoint: in the folder of the first, or from sources of its own."""
        if not spec.prior_sources:
            return None
        prior = folder / "prior"
        if not (prior / "model_index.json").is_file():
            prior, _ = hub.fetch(
                replace(spec, sources=spec.prior_sources), self._settings, on_message
            )
        _check_folder(spec, prior)
        return prior

    def _find_lora(self, spec: ModelSpec, folder: Path, on_message: OnMessage) -> Path | None:
        """The LoRA that makes a variant: of this repository, beside the checkpoint, of the Hub."""
        if spec.hub_lora is None:
            return spec.lora_file
        source, name = hub.split_file(spec.hub_lora)
        beside = folder / Path(name).name
        if beside.is_file():
            return beside
        return hub.fetch_file(source, name, spec.title, self._settings, on_message)

    def load(self, checkpoint: Checkpoint) -> LoadedModel:
        """Load a checkpoint from its folder to the device.

        Raises:
            ModelUnavailable: files are missing or damaged.
            OutOfMemory: the device cannot hold it.
        """
        spec = checkpoint.spec
        family = family_of(spec.backend)
        with ONE_LOAD, _damage_reported(spec, checkpoint.folder, checkpoint.lora):
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


def _count_elements(weights: Path) -> int:
    """Count the numbers in a safetensors file from its header."""
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as tensors:
        slices = (tensors.get_slice(name) for name in tensors.keys())  # noqa: SIM118
        return sum(torch.Size(piece.get_shape()).numel() for piece in slices)


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


def _revision(commit: str | None, weights: list[Path], lora: Path | None) -> str:
    """Name what a picture is drawn with: the Hub's commit or the files' hash, and the LoRA's."""
    if commit is None:
        return f"{LOCAL}@{short_hash([*weights, lora] if lora else weights)}"
    return f"{commit}+{short_hash([lora])}" if lora else commit


def short_hash(weights: Sequence[Path]) -> str:
    """The first 12 digits of the SHA-256 of some files, one after the other."""
    digest = hashlib.sha256()
    for path in weights:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:12]


def _check_folder(spec: ModelSpec, folder: Path) -> None:
    """Refuse a folder that holds no checkpoint, or one that only pickle could read."""
    if not folder.is_dir():
        raise ModelUnavailable(
            f"{spec.title} is set to be loaded from the folder “{folder.name}”, which does not "
            f"exist. Correct `CROQUIS_MODEL_PATHS`."
        )
    if not (folder / "model_index.json").is_file():
        raise ModelUnavailable(
            f"{spec.title}: the folder “{folder.name}” holds no checkpoint in diffusers' layout, "
            f"which has a file `model_index.json`."
        )
    for part in folder.iterdir():
        is_unread = part.name == TEXT_ENCODER and not spec.reads_itself
        if is_unread or any(part.glob("*.safetensors")):
            continue
        if any(path.suffix in PICKLE_SUFFIXES for path in part.glob("*")):
            raise ModelUnavailable(
                f"{spec.title}: “{folder.name}/{part.name}” holds only pickle weights, which can "
                f"run code when they are opened. Croquis loads safetensors only: get those files "
                f"of the checkpoint, or convert these."
            )


@contextmanager
def _damage_reported(spec: ModelSpec, folder: Path, lora: Path | None = None) -> Iterator[None]:
    """Say in plain words what the libraries raise about the files of a checkpoint."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as exc:
        if is_out_of_memory(exc):
            raise OutOfMemory(
                f"{spec.title} does not fit into the memory of this machine. Choose a smaller "
                f"model, or lower `CROQUIS_MEMORY_BUDGET_GB` so that others make room."
            ) from exc
        log.warning("Could not load %s from %s", spec.key, folder, exc_info=True)
        places = f"“{folder.name}”"
        if lora is not None:
            places += f" or “{lora.parent.name if spec.fused_lora else lora.name}”"
        raise ModelUnavailable(
            f"{spec.title} could not be loaded: files in its folder {places} are missing or "
            f"damaged."
        ) from exc
