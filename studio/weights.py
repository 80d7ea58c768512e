"""What a safetensors file holds, told from its header alone: names, shapes, metadata.

Nothing of the weights themselves is read. The metadata is written by trainers: kohya's
sd-scripts (`ss_...`) and the Stability AI model specification (`modelspec....`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from studio.errors import InvalidRequest

BASES: Mapping[str, str] = {
    "sd1": "Stable Diffusion 1",
    "sd2": "Stable Diffusion 2",
    "sdxl": "SDXL",
    "sdxl_refiner": "the SDXL refiner",
    "sd3": "Stable Diffusion 3",
    "flux1": "FLUX.1",
    "flux2": "FLUX.2",
    "qwen_image": "Qwen-Image",
    "z_image": "Z-Image",
    "croquis": "Croquis Mini",
}
"""Families whose adapters fit each other's models, as the page names them."""

KINDS: Mapping[str, str] = {
    "lora": "a LoRA",
    "embedding": "an embedding (textual inversion)",
    "control": "a ControlNet",
    "reference": "an IP-Adapter",
    "checkpoint": "a whole model",
    "unknown": "no adapter that Croquis knows",
}

SDXL_PAIRS = (("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1"))
"""What files call the vectors for SDXL's first and second encoder."""
SHOWN_TRIGGERS = 8

_BASE_OF_TEXT_WIDTH = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl_refiner", 256: "croquis"}
"""Numbers per token that a U-Net reads. 256 is the built-in model's."""
_NAMED = (
    ("stable-diffusion-xl-v1-refiner", "sdxl_refiner"),
    ("stable-diffusion-xl", "sdxl"),
    ("sdxl", "sdxl"),
    ("stable-diffusion-v1", "sd1"),
    ("sd_v1", "sd1"),
    ("stable-diffusion-v2", "sd2"),
    ("sd_v2", "sd2"),
    ("stable-diffusion-3", "sd3"),
    ("sd3", "sd3"),
    ("flux-2", "flux2"),
    ("flux.2", "flux2"),
    ("flux2", "flux2"),
    ("flux", "flux1"),
    ("qwen", "qwen_image"),
    ("z-image", "z_image"),
    ("croquis", "croquis"),
)
"""Beginnings of what trainers call the model, most exact first."""
_DOWN = re.compile(r"(lora[_.]down|lora_A|lora\.down)(\.[\w-]+)?\.weight$")
_LORA = re.compile(r"lora|hada_w|lokr_|oft_|\.diff$|dora_scale", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The header of one file."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]

    @property
    def kind(self) -> str:
        """A key of KINDS."""
        names = tuple(self.shapes)
        if any(_LORA.search(name) for name in names):
            return "lora"
        if any(name.startswith(("image_proj.", "ip_adapter.")) for name in names):
            return "reference"
        if any("controlnet" in name or "input_hint_block" in name for name in names):
            return "control"
        if _is_embedding(self.shapes):
            return "embedding"
        return "checkpoint" if len(names) > 20 else "unknown"

    @property
    def base(self) -> str | None:
        """A key of BASES; None if neither shapes nor metadata tell."""
        if self.kind == "embedding":
            return _base_of_embedding(self.shapes)
        return _base_of_unet(self.shapes) or _base_of_transformer(self.shapes) or self._named_base

    @property
    def rank(self) -> int | None:
        """The largest rank of a LoRA."""
        ranks = [shape[0] for name, shape in self.shapes.items() if _DOWN.search(name)]
        return max(ranks, default=None)

    @property
    def triggers(self) -> tuple[str, ...]:
        """Words that it was taught, as its trainer wrote them down, most used first."""
        phrase = self.metadata.get("modelspec.trigger_phrase", "")
        words = [word.strip() for word in phrase.split(",") if word.strip()]
        return tuple(words or _frequent_tags(self.metadata))[:SHOWN_TRIGGERS]

    @property
    def _named_base(self) -> str | None:
        names = ("modelspec.architecture", "ss_base_model_version")
        named = [self.metadata.get(name, "").lower() for name in names]
        found = (base for start, base in _NAMED if any(name.startswith(start) for name in named))
        return next(found, None)


def read_weights(path: Path, name: str) -> Weights:
    """Read the header of a safetensors file.

    Args:
        name: what the visitor calls it, for the message.

    Raises:
        InvalidRequest: it is missing, no safetensors file, or cut short.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as tensors:
            names = list(tensors.keys())
            shapes = {key: tuple(tensors.get_slice(key).get_shape()) for key in names}
            return Weights(shapes=shapes, metadata=dict(tensors.metadata() or {}))
    except (OSError, SafetensorError) as exc:
        raise InvalidRequest(
            f"“{name}” is no whole safetensors file: download it once more, or convert it."
        ) from exc


def check_fits(weights: Weights, kind: str, name: str, base: str | None, model_title: str) -> None:
    """Refuse a file of another kind, or for another base than the model's.

    What cannot be told from the header is left to loading, which refuses tensors without a place.

    Raises:
        InvalidRequest: says what it is and what the model is.
    """
    if weights.kind != kind:
        raise InvalidRequest(f"“{name}” is {KINDS[weights.kind]}, not {KINDS[kind]}.")
    own = weights.base
    if own is None or base is None or own == base:
        return
    raise InvalidRequest(
        f"“{name}” is for {BASES[own]}, but {model_title} is {_base_title(base, model_title)}. "
        f"Choose a model of that family, or another file."
    )


def _base_title(base: str, model_title: str) -> str:
    title = BASES.get(base, base)
    return "of another kind" if title == model_title else f"of the family {title}"


def _is_embedding(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    flat = all(len(shape) in (1, 2) for shape in shapes.values())
    named = any(shapes.keys() == {*pair} for pair in SDXL_PAIRS) or "emb_params" in shapes
    return flat and (len(shapes) == 1 or named)


def _base_of_embedding(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    widths = {shape[-1] for shape in shapes.values()}
    if widths == {768, 1280}:
        return "sdxl"
    return _BASE_OF_TEXT_WIDTH.get(widths.pop()) if widths <= {768, 1024, 256} else None


def _base_of_unet(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """From the layers that read the text, or from the text encoders'."""
    downs = {name: shape for name, shape in shapes.items() if _DOWN.search(name)}
    for name, shape in downs.items():
        if re.search(r"attn2[._]to_[kv]", name) or re.search(r"attn2.processor.to_[kv]_lora", name):
            return _BASE_OF_TEXT_WIDTH.get(shape[1])
    if any(name.startswith(("lora_te2_", "text_encoder_2.")) for name in downs):
        return "sdxl"
    for name, shape in downs.items():
        is_text = name.startswith(("lora_te_", "text_encoder."))
        if is_text and re.search(r"self_attn[._][qkv]_proj", name):
            return _BASE_OF_TEXT_WIDTH.get(shape[1])
    return None


def _base_of_transformer(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """From names that only one family has."""
    names = " ".join(shapes)
    if "to_qkv_mlp_proj" in names or "stream_modulation" in names:
        return "flux2"
    if "img_mlp" in names or "img_mod" in names:
        return "qwen_image" if "transformer_blocks" in names else None
    if "single_transformer_blocks" in names and "proj_mlp" in names:
        return "flux1"
    if "joint_blocks" in names:
        return "sd3"
    widths = {shape[1] for name, shape in shapes.items() if re.search("add_[kqv]_proj", name)}
    return "sd3" if widths & {1536, 2432} else None


def _frequent_tags(metadata: Mapping[str, str]) -> list[str]:
    """The tags of kohya's pictures; [] if there are none."""
    try:
        folders = json.loads(metadata.get("ss_tag_frequency", "{}"))
        counts: dict[str, int] = {}
        for tags in folders.values():
            for tag, count in tags.items():
                counts[str(tag).strip()] = counts.get(str(tag).strip(), 0) + int(count)
    except (ValueError, TypeError, AttributeError):
        return []
    return sorted((tag for tag in counts if tag), key=lambda tag: (-counts[tag], tag))
