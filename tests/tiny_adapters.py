"""Small LoRAs, embeddings, ControlNets and IP-Adapters for tiny checkpoints, as real files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel, DiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import save_file
from tiny_families import parts
from tiny_families.house import family_catalogue, family_settings, pictures
from tiny_house import RecordingWatcher
from torch import nn
from transformers import CLIPVisionModelWithProjection

from pipelines.adapters import Adapters
from pipelines.drawing import draw
from pipelines.loader import LoadedModel, Loader
from pipelines.manager import PipelineManager
from pipelines.sources import AdapterSources
from pipelines.twins import twin_of
from studio.adapter_files import AdapterFiles
from studio.controls import Controls, ControlSpec
from studio.request import GenerationRequest

ANNA, BERT = "a" * 32, "b" * 32
TARGETS = ["to_q", "to_k", "to_v", "conv1"]


@dataclass
class Listener(RecordingWatcher):
    """A watcher that hears what takes its time too."""

    messages: list[str] = field(default_factory=list)

    def on_message(self, text: str) -> None:
        self.messages.append(text)


@dataclass
class House:
    """Tiny models, what is added to them, and the files of two visitors."""

    manager: PipelineManager
    adapters: Adapters
    files: AdapterFiles

    def draw(
        self,
        request: GenerationRequest,
        watcher: Listener | None = None,
        images: Mapping[str, Image.Image] | None = None,
        owner: str = ANNA,
    ) -> np.ndarray:
        """The first picture of a request (H, W, 3), drawn as the engine does."""
        watcher = watcher or Listener()
        catalogue = family_catalogue(family_settings(request.model))
        scheduler = catalogue.get_scheduler(request.scheduler)
        images = images or pictures()
        with (
            self.manager.borrow(request.model) as loaded,
            self.adapters.applied(loaded, request, images, owner, watcher) as adapted,
        ):
            [drawn] = draw(adapted.loaded, scheduler, adapted.request, [0], watcher, adapted.images)
        return np.asarray(drawn.image)

    def keep(self, path: Path, owner: str = ANNA) -> str:
        """Upload a file; what a request names it by."""
        return self.files.keep(path, path.name, owner).source


def open_house(
    folder: Path, *keys: str, guides: Mapping[str, tuple[ControlSpec, Path]] | None = None
) -> House:
    """Rows with tiny checkpoints, and networks that follow pictures in folders of their own."""
    settings = family_settings(*keys)
    catalogue = family_catalogue(settings)
    manager = PipelineManager(catalogue, Loader(settings), 10**9)
    places = {spec.key: path for spec, path in (guides or {}).values()}
    settings = replace(settings, model_paths={**settings.model_paths, **places})
    controls = Controls({spec.key: spec for spec, _ in (guides or {}).values()}, settings)
    files = AdapterFiles(folder / "adapters")
    sources = AdapterSources(files, settings)
    return House(manager, Adapters(controls, sources, manager, settings), files)


def save_lora(loaded: LoadedModel, path: Path, seed: int = 0, rank: int = 4) -> Path:
    """A LoRA of random weights, made by peft and saved by diffusers' own function."""
    torch.manual_seed(seed)
    layers = {}
    for name, targets in {
        "unet": TARGETS,
        "text_encoder": ["q_proj", "v_proj"],
        "text_encoder_2": ["q_proj", "v_proj"],
    }.items():
        module = loaded.pipeline.components.get(name)
        if module is None:
            continue
        twin = twin_of(module)
        config = LoraConfig(
            r=rank, lora_alpha=rank, target_modules=targets, init_lora_weights=False
        )
        twin.add_adapter(config)
        state = get_peft_model_state_dict(twin)
        layers[f"{name}_lora_layers"] = {key: value / 3 for key, value in state.items()}
    type(loaded.pipeline).save_lora_weights(path.parent, weight_name=path.name, **layers)
    return path


def lora_pairs(
    loaded: LoadedModel, seed: int = 0, rank: int = 2
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Random down and up matrices for each attention of the U-Net, by the module's name."""
    torch.manual_seed(seed)
    return {
        name: (torch.randn(rank, part.in_features) / 3, torch.randn(part.out_features, rank) / 3)
        for name, part in loaded.pipeline.unet.named_modules()
        if isinstance(part, nn.Linear) and name.endswith(("to_q", "to_k", "to_v"))
    }


def save_plain(pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]], path: Path) -> Path:
    """In diffusers' format."""
    named = {
        f"unet.{name}.lora_{side}.weight": pairs[name]["AB".index(side)]
        for name in pairs
        for side in "AB"
    }
    save_file(named, path)
    return path


def save_kohya(
    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]], path: Path, alpha: float
) -> Path:
    """In the format of kohya's sd-scripts, which most LoRAs of the web have."""
    named: dict[str, torch.Tensor] = {}
    for name, (down, up) in pairs.items():
        start = f"lora_unet_{name.replace('.', '_')}"
        named |= {f"{start}.lora_down.weight": down, f"{start}.lora_up.weight": up}
        named[f"{start}.alpha"] = torch.tensor(alpha)
    save_file(named, path, metadata={"ss_base_model_version": "sd_v1"})
    return path


def save_embedding(path: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def save_control(loaded: LoadedModel, folder: Path, base: str) -> tuple[ControlSpec, Path]:
    """A ControlNet that has an effect: untrained ones add nothing."""
    torch.manual_seed(0)
    scales = (8, 16, 16, 16)[: len(loaded.pipeline.vae.config.block_out_channels)]
    net = ControlNetModel.from_unet(
        loaded.pipeline.unet, conditioning_embedding_out_channels=scales
    )
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    net.save_pretrained(folder)
    files = ("config.json", "diffusion_pytorch_model.safetensors")
    return ControlSpec(key=f"control-{base}", base=base, kind="canny", files=files), folder


def save_reference(loaded: LoadedModel, folder: Path, base: str) -> tuple[ControlSpec, Path]:
    """An IP-Adapter of random weights with its image encoder, named as the real files are."""
    torch.manual_seed(0)
    CLIPVisionModelWithProjection(parts.vision_config()).save_pretrained(folder / "image_encoder")
    width = loaded.pipeline.unet.config.cross_attention_dim
    tensors = {
        "image_proj.proj.weight": torch.randn(4 * width, parts.PROJECTED),
        "image_proj.proj.bias": torch.randn(4 * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    for number, hidden in enumerate(_attended(loaded.pipeline)):
        for name in ("to_k_ip", "to_v_ip"):
            tensors[f"ip_adapter.{2 * number + 1}.{name}.weight"] = torch.randn(hidden, width) / 3
    save_file(tensors, folder / "ip-adapter.safetensors")
    files = ("image_encoder/config.json", "image_encoder/model.safetensors")
    files = (*files, "ip-adapter.safetensors")
    return ControlSpec(key=f"reference-{base}", base=base, kind="reference", files=files), folder


def _attended(pipeline: DiffusionPipeline) -> list[int]:
    """Channels of each attention of a U-Net that reads the text, in the order of its processors."""
    unet = pipeline.unet
    names = [name.removesuffix(".processor") for name in unet.attn_processors]
    return [unet.get_submodule(name).to_k.out_features for name in names if name.endswith("attn2")]
