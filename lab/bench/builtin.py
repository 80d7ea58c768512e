"""The built-in model on the processor."""

from __future__ import annotations

from dataclasses import replace

from lab.bench.effort import Effort
from lab.bench.stage import Stage
from studio.catalogue import Catalogue
from studio.catalogue_files import MODELS_TOML, SCHEDULERS_TOML
from studio.request import GenerationRequest
from studio.settings import Settings

PROMPT = "a red castle by the sea"
FIRST, OTHER = "builtin", "builtin-fast"


def builtin_stage(effort: Effort) -> Stage:
    """Both rows of the catalogue that need no download."""
    settings = Settings(device="cpu", offline=True)
    catalogue = Catalogue.load(MODELS_TOML, SCHEDULERS_TOML, settings)

    def request(key: str, steps: int | None) -> GenerationRequest:
        made = catalogue.default_request(key, PROMPT)
        steps = steps or made.num_inference_steps
        return replace(made, seed=1, upscale=1, prompt_syntax="plain", num_inference_steps=steps)

    return Stage(
        title="built-in",
        settings=settings,
        catalogue=catalogue,
        request=request(FIRST, effort.steps),
        other=request(OTHER, None),
    )
