"""The recipe of a picture, and the PNG that carries it.

Every PNG holds its recipe twice: as the text that AUTOMATIC1111 writes under `parameters`,
for all the tools that read it, and as our own JSON under `croquis`, which loses nothing.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone

from PIL import Image, PngImagePlugin

from studio.catalogue import Catalogue
from studio.infotext import write_infotext
from studio.jobs import ENLARGED_BY, Job
from studio.request import MAX_SEED, GenerationRequest

OWN_CHUNK = "croquis"
A1111_CHUNK = "parameters"
PNG_LEVEL = 3
"""Of zlib: a quarter of the time of the usual 6, for a seventh more bytes."""
LOCAL = "local"
"""Source of weights that came from a folder: its name is the host's own business."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that is needed to draw one picture again."""

    request: GenerationRequest
    """For this picture alone: its own seed, `num_images` 1."""
    model_title: str
    revision: str
    """"<repository>@<commit>" of the Hub, or "local@<SHA-256 of the weights, shortened>"."""
    sampler: str
    """AUTOMATIC1111's name of the scheduler, such as "DPM++ 2M"."""
    schedule: str | None = None
    """Its schedule type there, such as "Karras"."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Packages that drew it, such as {"diffusers": "0.42.1"}."""
    parent_id: str | None = None
    """The kept picture that this one was enlarged from, or drawn from; None is neither."""
    enlarged: int = 1
    """How many times wider it was made after its first form was kept: 4, then 16."""
    index: int = 0
    """Place among the pictures of its job, from 0."""
    created_at: str
    """ISO 8601 with its offset, UTC."""

    def to_json(self) -> str:
        """The recipe as JSON text in ASCII."""
        return json.dumps({**asdict(self), "request": self.request.to_json()})

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The inverse of `to_json`, for text that we wrote ourselves."""
        values = json.loads(text)
        return cls(**{**values, "request": GenerationRequest.from_json(values["request"])})

    def enlarged_from(self, parent_id: str) -> Recipe:
        """The recipe of the picture that is enlarged from this one, whose id is given."""
        return replace(
            self,
            parent_id=parent_id,
            enlarged=self.enlarged * ENLARGED_BY,
            index=0,
            created_at=_now(),
        )


def drawn_recipe(
    catalogue: Catalogue, job: Job, index: int, revision: str, versions: Mapping[str, str]
) -> Recipe:
    """The recipe of picture `index` of a job, which is drawn now.

    Raises:
        UnknownModel, UnknownScheduler: the catalogue does not know the job's own.
    """
    scheduler = catalogue.get_scheduler(job.request.scheduler)
    seed = (job.request.seed + index) % (MAX_SEED + 1)
    return Recipe(
        request=replace(job.request, seed=seed, num_images=1),
        model_title=catalogue.get_model(job.request.model).title,
        revision=revision,
        sampler=scheduler.a1111,
        schedule=scheduler.a1111_schedule,
        versions=dict(versions),
        parent_id=_parent_of(job.request),
        index=index,
        created_at=_now(),
    )


def _parent_of(request: GenerationRequest) -> str | None:
    """The kept picture that a request starts from; one that the visitor brought is none."""
    if request.start is None or request.start.picture.startswith("input-"):
        return None
    return request.start.picture


def encode_png(image: Image.Image, recipe: Recipe) -> bytes:
    """The picture as PNG, without loss, with its recipe in two text chunks."""
    text = PngImagePlugin.PngInfo()
    text.add_text(A1111_CHUNK, write_infotext(recipe.request, _pairs(recipe)))
    text.add_text(OWN_CHUNK, recipe.to_json())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=text, compress_level=PNG_LEVEL)
    return buffer.getvalue()


def _pairs(recipe: Recipe) -> dict[str, str | int | float | None]:
    """The settings line: AUTOMATIC1111's keys in its order, then ours."""
    request = recipe.request
    source, _, digest = recipe.revision.rpartition("@")
    return {
        "Steps": request.num_inference_steps,
        "Sampler": recipe.sampler,
        "Schedule type": recipe.schedule,
        "CFG scale": request.guidance_scale,
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        "Model hash": digest[:10] if source == LOCAL else None,
        "Model": recipe.model_title,
        "RNG": "CPU",
        "Denoising strength": request.start.strength if request.start else None,
        "Tiling": True if request.tiling == "both" else None,
        "Hires upscale": larger if (larger := request.upscale * recipe.enlarged) > 1 else None,
        "App": "Croquis",
        "Tiling axis": request.tiling if request.tiling in ("x", "y") else None,
        "Prompt syntax": request.prompt_syntax if request.prompt_syntax != "plain" else None,
        "Model id": request.model,
        "Parent": recipe.parent_id,
        "Revision": None if source == LOCAL else recipe.revision,
        **{name.capitalize(): version for name, version in recipe.versions.items()},
    }


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()
