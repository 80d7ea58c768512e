"""Checkpoints that are put together from their components, each loaded by its own class.

`from_pretrained` refuses the pipelines that diffusers keeps as deprecated: it no longer knows the
libraries which their `model_index.json` names. A name in such a file never decides what is
imported: only the classes listed here are.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DiffusionPipeline

from pipelines.holding import place
from studio.errors import ModelUnavailable
from studio.model_files import is_of

if TYPE_CHECKING:
    from pipelines.checkpoints import Checkpoint
    from studio.specs import ModelSpec

_UNCLIP = "diffusers.pipelines.deprecated.unclip.text_proj"
_VQ = "diffusers.pipelines.deprecated.vq_diffusion.pipeline_vq_diffusion"
CLASSES: Mapping[str, str] = {
    "CLIPImageProcessor": "transformers",
    "CLIPImageProcessorPil": "transformers",
    "CLIPTextModel": "transformers",
    "CLIPTextModelWithProjection": "transformers",
    "CLIPTokenizer": "transformers",
    "CLIPVisionModelWithProjection": "transformers",
    "DPTForDepthEstimation": "transformers",
    "DPTImageProcessor": "transformers",
    "T5Tokenizer": "transformers",
    "AutoencoderKL": "diffusers",
    "DDIMScheduler": "diffusers",
    "DDPMScheduler": "diffusers",
    "PNDMScheduler": "diffusers",
    "PriorTransformer": "diffusers",
    "Transformer2DModel": "diffusers",
    "UNet2DConditionModel": "diffusers",
    "UNet2DModel": "diffusers",
    "UnCLIPScheduler": "diffusers",
    "VQDiffusionScheduler": "diffusers",
    "VQModel": "diffusers",
    "IFSafetyChecker": "pipelines.families.if_safety",
    "IFWatermarker": "diffusers.pipelines.deepfloyd_if.watermark",
    "LearnedClassifierFreeSamplingEmbeddings": _VQ,
    "UnCLIPTextProjModel": _UNCLIP,
}
"""Every class that a component may have, and the module where it is."""

RENAMED = {
    "CLIPFeatureExtractor": "CLIPImageProcessor",
    "DPTFeatureExtractor": "DPTImageProcessor",
}
"""Classes that older checkpoints name, and their names of today."""
OPTIONS = ("requires_safety_checker",)
"""Arguments of constructors that are no components, and stay as they are."""
_TOKENIZERS = ("tokenizer.json", "spiece.model", "vocab.json")


def load_pipeline(
    checkpoint: Checkpoint, device: str, dtype: torch.dtype, without: Collection[str] = ()
) -> DiffusionPipeline:
    """Load the components of a checkpoint and give them to the constructor of its pipeline.

    Args:
        without: names of components that are None in their place, and whose files may lack.

    Raises:
        ModelUnavailable: a component or a file lacks, or is of a class not listed here.
    """
    spec, folder = checkpoint.spec, checkpoint.folder
    pipeline_class = getattr(importlib.import_module("diffusers"), spec.pipeline_class)
    _, *names = inspect.signature(pipeline_class.__init__).parameters  # the first is `self`
    classes = _component_classes(spec, folder, {*names} - {*OPTIONS, *without})
    parts = {
        name: load_part(spec, folder / name, class_name, dtype, checkpoint.variant)
        for name, class_name in classes.items()
    }
    return place(pipeline_class(**parts, **dict.fromkeys(without)), checkpoint.holding, device)


def _component_classes(
    spec: ModelSpec, folder: Path, names: Collection[str]
) -> dict[str, str | None]:
    """What `model_index.json` says of each component: the name of its class, None if it has none.

    Raises:
        ModelUnavailable: it does not name one of them.
    """
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    said = {name: index.get(name) if isinstance(index, dict) else None for name in names}
    for name, value in said.items():
        if not isinstance(value, list) or len(value) != 2:
            raise ModelUnavailable(_lacks(spec, folder, "model_index.json", f"names no `{name}`"))
    return {name: value[1] for name, value in said.items()}


def load_part(
    spec: ModelSpec, part: Path, class_name: str | None, dtype: torch.dtype, variant: str | None
) -> Any:
    """Load one component from its folder, None if the checkpoint has none.

    Raises:
        ModelUnavailable: its class is not listed here, or a file lacks.
    """
    if class_name is None:
        return None
    class_name = RENAMED.get(class_name, class_name)
    if class_name not in CLASSES:
        raise ModelUnavailable(
            f"{spec.title}: “{part.name}” is of the class {str(class_name)[:60]!r}, which Croquis "
            f"does not know. Nothing of it was loaded. Get the checkpoint from its own source."
        )
    part_class = getattr(importlib.import_module(CLASSES[class_name]), class_name)
    variant = variant_of(part, variant)
    check_files(spec, part, part_class, variant)
    if not issubclass(part_class, torch.nn.Module):
        return part_class.from_pretrained(part, local_files_only=True)
    return part_class.from_pretrained(
        part,
        dtype=dtype,
        variant=variant,
        use_safetensors=True,
        local_files_only=True,
    ).eval()


def variant_of(part: Path, variant: str | None) -> str | None:
    """The variant if a component has its weights in it, None if only the plain ones."""
    return variant if any(is_of(path, variant) for path in part.glob("*.safetensors")) else None


def check_files(spec: ModelSpec, part: Path, part_class: type, variant: str | None = None) -> None:
    """Name the first file that lacks in the folder of a component; raises ModelUnavailable."""
    wanted = [getattr(part_class, "config_name", None) or _config_name(part_class)]
    for index in sorted(part.glob(f"*.safetensors.index{f'.{variant}' if variant else ''}.json")):
        wanted += sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    for name in wanted:
        if not (part / Path(name).name).is_file():
            raise ModelUnavailable(_lacks(spec, part.parent, f"{part.name}/{name}"))
    choices = _content_names(part_class)
    if choices and not any(any(part.glob(name)) for name in choices):
        raise ModelUnavailable(_lacks(spec, part.parent, f"{part.name}/{choices[0]}"))


def _config_name(part_class: type) -> str:
    names = {"Tokenizer": "tokenizer_config.json", "ImageProcessor": "preprocessor_config.json"}
    found = (file for part, file in names.items() if part in part_class.__name__)
    return next(found, "config.json")


def _content_names(part_class: type) -> tuple[str, ...]:
    """Patterns of which one must be there besides the config."""
    if issubclass(part_class, torch.nn.Module):
        stem = "model" if hasattr(part_class, "config_class") else "diffusion_pytorch_model"
        return (f"{stem}.safetensors", f"{stem}*.safetensors")
    return _TOKENIZERS if "Tokenizer" in part_class.__name__ else ()


def _lacks(spec: ModelSpec, folder: Path, name: str, why: str = "is missing") -> str:
    return (
        f"{spec.title} could not be loaded: “{name}” of its folder “{folder.name}” {why}. Get the "
        f"checkpoint again."
    )
