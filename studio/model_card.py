"""What a checkpoint says of itself: its `model_index.json`, its configs and its card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.errors import ModelUnavailable
from studio.model_files import INDEX, WEIGHTS

CARD = "README.md"
SMALL_FILES = [INDEX, CARD, "*/config.json", "scheduler/*.json"]
"""What is read of a repository before its weights are fetched."""

_LICENCES = {
    "apache-2.0": "yes",
    "mit": "yes",
    "creativeml-openrail-m": "conditional",
    "openrail++": "conditional",
}
"""Whether commercial use is allowed, by the Hub's names of licences; others are "unknown"."""
_COMMIT = re.compile(r"@[0-9a-f]{7,40}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What can be told of a checkpoint without loading it."""

    pipeline_class: str
    components: Mapping[str, str]
    """Class of each component by its name."""
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Config of each component, by its name."""
    licence: str
    licence_url: str
    commercial_use: str
    has_fp16: bool
    nbytes: int
    """Of its weights, as far as they are known; 0 is unknown."""
    gated: str = "unknown"

    @property
    def base(self) -> str | None:
        """Which LoRAs fit, as far as the text encoder's width tells: "sd1", "sd2"; else None."""
        width = self.configs.get("text_encoder", {}).get("hidden_size")
        if self.pipeline_class.startswith("StableDiffusionXL"):
            return "sdxl"
        return {768: "sd1", 1024: "sd2"}.get(width) if isinstance(width, int) else None

    @property
    def side(self) -> int | None:
        """Px of the pictures that it was trained on; None if its U-Net does not tell."""
        latents = self.configs.get("unet", {}).get("sample_size")
        scales = self.configs.get("vae", {}).get("block_out_channels")
        if not isinstance(latents, int) or not isinstance(scales, list):
            return None
        return int(latents * 2 ** (len(scales) - 1))


def read_card(folder: Path, files: Mapping[str, int], name: str, gated: str) -> ModelCard:
    """Read the small files of a checkpoint.

    Args:
        folder: holds them; the weights need not be there.
        files: every file of the checkpoint, with its size in bytes.
        name: what the visitor calls it, for errors.
        gated: see ModelSpec.

    Raises:
        ModelUnavailable: it is no checkpoint in diffusers' layout.
    """
    index = _read_json(folder / INDEX)
    pipeline_class = index.get("_class_name")
    if not isinstance(pipeline_class, str):
        raise ModelUnavailable(
            f"{name} is no checkpoint in diffusers' layout: it has no {INDEX} that names a "
            "pipeline. Look for a repository whose files begin with one."
        )
    parts = {
        part: str(place[1])
        for part, place in index.items()
        if isinstance(place, list) and len(place) == 2 and place[0] is not None
    }
    weights = {file: size for file, size in files.items() if file.endswith(WEIGHTS)}
    if files and not weights:
        raise ModelUnavailable(
            f"{name} holds no safetensors, only files that can run code when they are opened. "
            "Croquis does not load those: look for a repository that has safetensors."
        )
    licence, url = _licence(folder / CARD, name)
    halves = {file: size for file, size in weights.items() if ".fp16." in file}
    return ModelCard(
        pipeline_class=pipeline_class,
        components=parts,
        configs={part: _read_json(folder / part / "config.json") for part in parts},
        licence=licence,
        licence_url=url,
        commercial_use=_LICENCES.get(licence.lower(), "unknown"),
        has_fp16=bool(halves),
        nbytes=_nbytes(halves or weights),
        gated=gated,
    )


def _nbytes(weights: Mapping[str, int]) -> int:
    """Of the files inside components: single files beside them hold the same once more."""
    return sum(size for file, size in weights.items() if "/" in file)


def _licence(card: Path, name: str) -> tuple[str, str]:
    """The licence that a card states, and where it can be read."""
    url = f"https://huggingface.co/{_COMMIT.sub('', name)}" if name.count("/") == 1 else ""
    if not card.is_file():
        return "not stated", url or "https://huggingface.co"
    from huggingface_hub import ModelCard as HubCard

    stated = HubCard(
        card.read_text(encoding="utf-8", errors="replace"), ignore_metadata_errors=True
    )
    values = stated.data
    licence = values.get("license_name") or values.get("license") or "not stated"
    link = values.get("license_link")
    is_web = isinstance(link, str) and link.startswith("https://")
    return str(licence)[:80], str(link) if is_web else url or "https://huggingface.co"


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; {} for what is none, or not there."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
