"""Measures whether seamless pictures really join: seam scores with tiling, and without it.

python -m lab.seams --prompts 50
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, product

import numpy as np
from PIL import Image

from pipelines.drawing import draw
from pipelines.loader import Loader
from pipelines.manager import PipelineManager
from pipelines.safety import Flaw
from pipelines.upscale import FACTOR, Upscaler
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.request import GenerationRequest
from studio.settings import Settings

AXIS_OF = {"x": 1, "y": 0}
COLOURS = ("red and white", "navy and cream", "green and yellow", "black and pink", "teal and gray")
PATTERNS = (
    *("gingham fabric", "polka dot pattern", "striped cloth", "tartan", "houndstooth fabric"),
    *("chevron pattern", "argyle pattern", "floral wallpaper", "damask fabric", "paisley pattern"),
)


def seam_score(pixels: np.ndarray, axis: str) -> float:
    """The jump from one edge to the opposite one over the mean jump between neighbours.

    About 1 means that the repeat does not show.

    Args:
        pixels: (H, W, 3).
        axis: "x" for the left and right edges, "y" for top and bottom.
    """
    lines = np.moveaxis(pixels.astype(float), AXIS_OF[axis], 0)
    edge = np.abs(lines[0] - lines[-1]).mean()
    inner = np.abs(np.diff(lines, axis=0)).mean()
    return float(edge / max(inner, 1e-9))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=50, help="1 to 50")
    parser.add_argument("--model", default="builtin")
    options = parser.parse_args()
    settings = Settings()
    catalogue = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings)
    manager = PipelineManager(catalogue, Loader(settings), 10**10)
    prompts = [
        f"a {two} {kind}" for kind, two in islice(product(PATTERNS, COLOURS), options.prompts)
    ]
    print(f"{len(prompts)} prompts, seam score as kept: mean, and the worst")
    for tiling in ("none", "x", "y", "both"):
        scores = measure(manager, catalogue, options.model, prompts, tiling)
        shown = (
            f"{axis} {np.mean(each):5.2f} {np.max(each):5.2f}" for axis, each in scores.items()
        )
        print(f"tiling {tiling:5} {'   '.join(shown)}", flush=True)


def measure(
    manager: PipelineManager, catalogue: Catalogue, model: str, prompts: Sequence[str], tiling: str
) -> dict[str, list[float]]:
    """Draw each prompt with its own seed and score the pictures as they would be kept."""
    scores: dict[str, list[float]] = {axis: [] for axis in AXIS_OF}
    for seed, prompt in enumerate(prompts):
        own = catalogue.default_request(model, prompt)
        image = _draw(manager, catalogue, replace(own, seed=seed, tiling=tiling))
        for axis, found in scores.items():
            found.append(seam_score(np.asarray(image), axis))
    return scores


def _draw(
    manager: PipelineManager, catalogue: Catalogue, request: GenerationRequest
) -> Image.Image:
    scheduler = catalogue.get_scheduler(request.scheduler)
    with manager.borrow(request.model) as loaded:
        [drawn] = draw(loaded, scheduler, request, [0], _Silent())
        if isinstance(drawn.image, Flaw):
            raise SystemExit(f"{request.prompt!r} could not be drawn: {drawn.image.name}")
        upscaler = Upscaler(str(loaded.pipeline.device))
        wants_large = request.upscale == FACTOR
        return upscaler.enlarge(drawn.image, request.tiling) if wants_large else drawn.image


class _Silent:
    """Watches nothing."""

    def is_cancelled(self) -> bool:
        return False

    def is_watched(self) -> bool:
        return False

    def on_step(self, *_: object) -> None:
        pass

    def add_note(self, text: str) -> None:
        print(text)


if __name__ == "__main__":
    main()
