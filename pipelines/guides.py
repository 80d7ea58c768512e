"""Networks beside a model that let it follow a picture: ControlNets, IP-Adapters, depth."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import ControlNetModel
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForDepthEstimation,
    CLIPImageProcessor,
    CLIPVisionModelWithProjection,
)

from pipelines.device import is_out_of_memory
from pipelines.loader import ONE_LOAD
from studio.errors import ModelUnavailable, OutOfMemory

if TYPE_CHECKING:
    from studio.controls import ControlSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuideFiles:
    """The files of a network, found on this machine."""

    spec: ControlSpec
    paths: tuple[Path, ...]
    """As many as `ControlSpec.files`, in that order."""

    @property
    def nbytes(self) -> int:
        """About what they will take."""
        return sum(path.stat().st_size for path in self.paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlNet:
    """A ControlNet in memory."""

    module: ControlNetModel
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IPAdapter:
    """An IP-Adapter in memory: its own weights, and the encoder that looks at the picture."""

    weights: Mapping[str, Mapping[str, torch.Tensor]]
    """{"image_proj": ..., "ip_adapter": ...} as `load_ip_adapter` takes them."""
    image_encoder: CLIPVisionModelWithProjection
    feature_extractor: CLIPImageProcessor
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthEstimator:
    """Tells how near each part of a picture is."""

    module: Any
    processor: Any
    nbytes: int

    def estimate(self, picture: Image.Image) -> Image.Image:
        """L of the picture's size, near is bright, from 0 to 255."""
        inputs = self.processor(images=picture, return_tensors="pt")
        inputs = inputs.to(self.module.device, self.module.dtype)
        with torch.no_grad():
            depth = self.module(**inputs).predicted_depth  # (1, H, W)
        near = torch.nn.functional.interpolate(
            depth[None].float(), size=picture.size[::-1], mode="bicubic"
        )[0, 0]
        spread = (near - near.min()) / (near.max() - near.min()).clamp(min=1e-6)
        return Image.fromarray((spread.cpu().numpy() * 255).round().astype(np.uint8))


def load_guide(
    files: GuideFiles, device: str, dtype: torch.dtype
) -> ControlNet | IPAdapter | DepthEstimator:
    """Load a network from its files to a device.

    Raises:
        ModelUnavailable: a file is damaged, or of another shape than its config says.
        OutOfMemory: the device is full.
    """
    loaders: Mapping[str, Callable[[GuideFiles, str, torch.dtype], Any]] = {
        "reference": _load_reference,
        "depth_estimator": _load_depth,
    }
    with ONE_LOAD, _damage_reported(files.spec):
        return loaders.get(files.spec.kind, _load_control)(files, device, dtype)


def _load_control(files: GuideFiles, device: str, dtype: torch.dtype) -> ControlNet:
    config, weights = files.paths
    with torch.device("meta"):
        module = ControlNetModel.from_config(json.loads(config.read_text(encoding="utf-8")))
    module.load_state_dict(_read(weights, device, dtype), assign=True)
    return ControlNet(module=module.eval(), nbytes=_count_bytes(module))


def _load_reference(files: GuideFiles, device: str, dtype: torch.dtype) -> IPAdapter:
    config, _, weights = files.paths
    encoder = CLIPVisionModelWithProjection.from_pretrained(
        config.parent, dtype=dtype, use_safetensors=True, local_files_only=True
    ).to(device)
    tensors = _read(weights, device, dtype)
    parts = {
        part: {
            name.removeprefix(f"{part}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{part}.")
        }
        for part in ("image_proj", "ip_adapter")
    }
    side = encoder.config.image_size
    return IPAdapter(
        weights=parts,
        image_encoder=encoder,
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
        nbytes=_count_bytes(encoder) + sum(tensor.nbytes for tensor in tensors.values()),
    )


def _load_depth(files: GuideFiles, device: str, dtype: torch.dtype) -> DepthEstimator:
    folder = files.paths[0].parent
    module = AutoModelForDepthEstimation.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, local_files_only=True
    ).to(device)
    processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    return DepthEstimator(module=module, processor=processor, nbytes=_count_bytes(module))


def _read(path: Path, device: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {name: tensor.to(dtype) for name, tensor in load_file(path, device=str(device)).items()}


def _count_bytes(module: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


@contextmanager
def _damage_reported(spec: ControlSpec) -> Iterator[None]:
    """Say in plain words what the libraries raise about the files of a network."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as exc:
        if is_out_of_memory(exc):
            raise OutOfMemory(
                f"The network that follows a {spec.kind} picture does not fit into the memory of "
                f"this machine beside the model."
            ) from exc
        log.warning("Could not load %s", spec.key, exc_info=True)
        raise ModelUnavailable(
            f"The network that follows a {spec.kind} picture (`{spec.key}`) could not be loaded: "
            f"its files are damaged or of another model."
        ) from exc
