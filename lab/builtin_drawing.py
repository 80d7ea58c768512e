"""The variants of the built-in model, and the pictures they draw for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from lab.sheet import contact_sheet
from pipelines.loader import Loader
from pipelines.schedulers import build_scheduler
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.request import GenerationRequest
from studio.settings import Settings
from studio.specs import ModelSpec

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

BUILTIN = "builtin"
BATCH = 20
SHEET = Path("assets/builtin-sheet.webp")
PROMISES = (
    "A city above clouds, pastel colors, Victorian style",
    "an astronaut riding a horse on mars",
    "a dress with a red and white polka dot pattern",
    "a living room with a green sofa, a plant and a round table",
)
"""The prompts that the home page promises; the contact sheet begins with them."""
SHEET_PICTURES = 64


@dataclass(frozen=True, slots=True)
class Variant:
    """A row of the catalogue, ready to draw with its own defaults."""

    name: str
    request: GenerationRequest
    """Steps, guidance and size; of its prompt nothing is drawn."""
    pipeline: DiffusionPipeline

    def draw(self, prompts: Sequence[str]) -> list[np.ndarray]:
        """Draw one picture per prompt, (H, W, 3) uint8, with the prompt's number as its seed."""
        pictures: list[np.ndarray] = []
        for start in range(0, len(prompts), BATCH):
            batch = list(prompts[start : start + BATCH])
            seeds = [torch.Generator().manual_seed(start + index) for index in range(len(batch))]
            drawn = self.pipeline(
                batch,
                num_inference_steps=self.request.num_inference_steps,
                guidance_scale=self.request.guidance_scale,
                width=self.request.width,
                height=self.request.height,
                generator=seeds,
            )
            pictures += [np.asarray(picture) for picture in drawn.images]
        return pictures


def open_catalogue(folder: Path | None) -> tuple[Catalogue, Settings]:
    """Return the catalogue, with another folder for the built-in model if one is given."""
    settings = Settings(device="cpu", dtype="float32", offline=True)
    rows = variants(Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings))
    places = {row.key: folder.absolute() for row in rows} if folder else {}
    settings = Settings(device="cpu", dtype="float32", offline=True, model_paths=places)
    return Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings), settings


def variants(catalogue: Catalogue) -> list[ModelSpec]:
    """Return the rows that draw with the built-in checkpoint and whose files are here."""
    sources = catalogue.get_model(BUILTIN).sources
    rows = [row for row in catalogue.models.values() if row.sources == sources]
    return [row for row in rows if catalogue.availability(row.key).state != "missing"]


def load_variant(catalogue: Catalogue, settings: Settings, row: ModelSpec) -> Variant:
    """Load a row's checkpoint, its LoRA fused, with its default scheduler."""
    loader = Loader(settings)
    loaded = loader.load(loader.find(row, lambda message: None))
    request = catalogue.default_request(row.key, PROMISES[0])
    loaded.pipeline.set_progress_bar_config(disable=True)
    loaded.pipeline.scheduler = build_scheduler(
        catalogue.get_scheduler(request.scheduler), loaded.scheduler_config
    )
    return Variant(f"{row.title}, {request.num_inference_steps} steps", request, loaded.pipeline)


def save_sheet(
    variant: Variant, drawn: Sequence[np.ndarray], prompts: Sequence[str], path: Path
) -> None:
    """Save the promised prompts and the first of the others, enlarged as the app enlarges them."""
    from pipelines.upscale import Upscaler

    others = SHEET_PICTURES - len(PROMISES)
    pictures = [*variant.draw(PROMISES), *drawn[:others]]
    upscaler = Upscaler("cpu")
    large = [upscaler.enlarge(Image.fromarray(picture)) for picture in pictures]
    contact_sheet(large, [*PROMISES, *prompts[:others]], columns=8).save(path, quality=82)
