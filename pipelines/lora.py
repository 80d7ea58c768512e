"""LoRAs, several at once, upon a pipeline of twins."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from pipelines.device import is_out_of_memory
from studio.errors import InvalidRequest, OutOfMemory
from studio.weights import check_fits, read_weights

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from studio.specs import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraFile:
    """One LoRA of a request, on this machine."""

    path: Path
    name: str
    """What the visitor calls it."""
    weight: float
    """How much of it; not 0."""


def check_loras(files: Sequence[LoraFile], spec: ModelSpec) -> None:
    """Refuse, before anything is changed, what is no LoRA for this model.

    Raises:
        InvalidRequest: of another base, another kind of file, damaged, or with DoRA's scales,
            which diffusers would leave out in silence.
    """
    for file in files:
        weights = read_weights(file.path, file.name)
        check_fits(weights, "lora", file.name, spec.base, spec.title)
        if any("dora_scale" in name for name in weights.shapes):
            raise InvalidRequest(
                f"“{file.name}” is a DoRA, whose scales diffusers leaves out. Choose a plain LoRA."
            )


def add_loras(pipeline: DiffusionPipeline, files: Sequence[LoraFile], spec: ModelSpec) -> None:
    """Load LoRAs into the modules of a pipeline, which nobody else uses.

    Raises:
        InvalidRequest: a tensor has no place in this model, which diffusers would only log.
        OutOfMemory: the device is full.
    """
    names = [f"croquis_{index}" for index in range(len(files))]
    for file, name in zip(files, names, strict=True):
        with _misfit_reported(file, spec), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            _load(pipeline, file.path, name)
    pipeline.set_adapters(names, [file.weight for file in files])


def _load(pipeline: DiffusionPipeline, path: Path, name: str) -> None:
    place = {"weight_name": path.name, "use_safetensors": True, "local_files_only": True}
    pipeline.load_lora_weights(path.parent, adapter_name=name, **place)
    loaded = dict(_loaded(pipeline, name))
    for tensor, module in loaded.items():
        tensor.data = tensor.data.to(module.device, module.dtype)
    unet = pipeline.components.get("unet")
    config = {"unet_config": unet.config} if unet is not None else {}
    wanted = pipeline.lora_state_dict(path.parent, **place, **config)
    tensors: dict[str, Any] = wanted[0] if isinstance(wanted, tuple) else wanted
    sizes = Counter(tensor.numel() for key, tensor in tensors.items() if not _is_alpha(key))
    left = sizes - Counter(tensor.numel() for tensor in loaded)
    if left:
        raise ValueError(f"{left.total()} of {sizes.total()} tensors have no place")


def _loaded(pipeline: DiffusionPipeline, name: str) -> Iterator[tuple[nn.Parameter, Any]]:
    """The tensors of a LoRA, and the model that each is in."""
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            parameters = part.named_parameters()
            yield from ((tensor, part) for key, tensor in parameters if f".{name}" in key)


def _is_alpha(key: str) -> bool:
    return key.endswith((".alpha", "_alpha"))


@contextmanager
def _misfit_reported(file: LoraFile, spec: ModelSpec) -> Iterator[None]:
    """Say in plain words what the libraries raise about a LoRA."""
    try:
        yield
    except (ValueError, RuntimeError, LookupError, AttributeError, OSError) as exc:
        if is_out_of_memory(exc):
            raise OutOfMemory(
                f"“{file.name}” does not fit into the memory of this machine."
            ) from exc
        raise InvalidRequest(
            f"“{file.name}” does not fit {spec.title}: {_reason(exc)}. Choose a LoRA that was made "
            f"for this model."
        ) from exc


def _reason(exc: Exception) -> str:
    text = str(exc)
    return text if text.endswith("have no place") else "its layers are not this model's"
