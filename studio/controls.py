"""Networks that let a drawing follow a picture: which of them fit a model, and where they are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from studio.errors import InvalidRequest
from studio.ingredients import CONTROLS
from studio.request import GenerationRequest
from studio.settings import ROOT, Settings
from studio.specs import ModelSpec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONTROLS_TOML = ROOT / "assets" / "controls.toml"
REFERENCE = "reference"
DEPTH_ESTIMATOR = "depth-estimator"
ControlMaker = Callable[[str, Image.Image], Image.Image]
"""(kind of MADE_HERE, any picture) -> what of it is followed, of the same size."""
MADE_HERE = ("canny", "line")
"""Kinds of control pictures that are made of any picture without a network."""

CLASSES: Mapping[str, Mapping[str, str]] = {
    "StableDiffusionPipeline": {
        "pipeline_class": "StableDiffusionControlNetPipeline",
        "image_to_image_class": "StableDiffusionControlNetImg2ImgPipeline",
        "inpainting_class": "StableDiffusionControlNetInpaintPipeline",
    },
    "StableDiffusionXLPipeline": {
        "pipeline_class": "StableDiffusionXLControlNetPipeline",
        "image_to_image_class": "StableDiffusionXLControlNetImg2ImgPipeline",
        "inpainting_class": "StableDiffusionXLControlNetInpaintPipeline",
    },
}
"""diffusers' classes that draw as a plain one does, and follow a control picture too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSpec:
    """One table of assets/controls.toml."""

    key: str
    base: str
    """Of the models that it fits, see `ModelSpec.base`; "any" for an estimator."""
    kind: str
    """One of `studio.ingredients.CONTROLS`, "reference" or "depth_estimator"."""
    repository: str | None = None
    """On the Hub; None is a folder of the host's own only."""
    files: tuple[str, ...]
    """Paths there and in a folder of the host's own, the weights last."""
    licence: str = "unknown"
    download_gb: float = 0.0
    uncertain: tuple[str, ...] = ()
    """Names of fields whose values were not confirmed."""

    def local_path(self, settings: Settings) -> Path | None:
        """The host's own folder with these files, or None."""
        return settings.model_paths.get(self.key)


class Controls:
    """All of them, looked up by base and kind."""

    def __init__(self, specs: Mapping[str, ControlSpec], settings: Settings) -> None:
        self.specs = dict(specs)
        self._settings = settings

    @classmethod
    def load(cls, path: Path, settings: Settings) -> Controls:
        """Read the file."""
        return cls(read_controls(path), settings)

    def find(self, spec: ModelSpec, kind: str) -> ControlSpec | None:
        """The network of a kind for a model; None if there is none that can be had."""
        wanted = ("any", DEPTH_ESTIMATOR) if kind == "depth_estimator" else (spec.base, None)
        for one in self.specs.values():
            fits = one.base == wanted[0] and one.kind == kind
            if fits and (one.repository or one.local_path(self._settings)):
                return one
        return None

    def offered(self, spec: ModelSpec) -> tuple[str, ...]:
        """The kinds that a model can follow; control pictures, and "reference"."""
        kinds = (*CONTROLS, REFERENCE) if spec.pipeline_class in CLASSES else ()
        return tuple(kind for kind in kinds if self.find(spec, kind))

    def check(self, spec: ModelSpec, request: GenerationRequest) -> None:
        """Refuse a picture to follow that this model cannot follow, or that cannot be made.

        Raises:
            InvalidRequest: says what it can follow.
        """
        wanted = [request.control.kind] if request.control else []
        wanted += [REFERENCE] if request.reference else []
        offered = self.offered(spec)
        for kind in wanted:
            if kind not in offered:
                can = f"only {', '.join(offered)}" if offered else "no picture at all"
                raise InvalidRequest(
                    f"{spec.title} cannot follow a {kind} picture, {can}. Choose a model of "
                    f"Stable Diffusion 1 or SDXL."
                )
        control = request.control
        if control and control.kind == "segmentation" and not control.is_ready:
            raise InvalidRequest(
                "Croquis makes no segmentation pictures: bring one whose areas have ADE20K's "
                "colours, and say that it is ready."
            )


def read_controls(path: Path = CONTROLS_TOML) -> dict[str, ControlSpec]:
    """Every table of a file by its key."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {key: _spec(key, table) for key, table in tables.items()}


def _spec(key: str, table: Mapping[str, object]) -> ControlSpec:
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in table.items()}
    return ControlSpec(key=key, **values)  # type: ignore[arg-type]
