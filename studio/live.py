"""Drawing while a visitor types: which model does it, and what is refused."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from studio.fast_models import find_fast
from studio.request import MAX_SEED, RANDOM_SEED, GenerationRequest
from studio.sketches import Sketch
from studio.specs import ModelSpec

if TYPE_CHECKING:
    from studio.studio import Studio

HERE = ("loaded", "loading", "ready", "local")
"""States of a model that need no download."""


class LiveDrawing:
    """The page's side of sketches, around the studio."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def model_for(self, key: str) -> ModelSpec:
        """The model that draws the sketches where `key` is chosen; nothing is downloaded for it.

        Raises:
            UnknownModel: there is no such key.
            ModelUnavailable: no fast model is on this machine.
        """
        catalogue = self._studio.catalogue
        return find_fast(catalogue.get_model(key), catalogue.models.values(), self._is_here)

    def ask(self, request: GenerationRequest, owner: str) -> Sketch:
        """Wish for a picture that is shown and not kept, in place of this visitor's older wish.

        Raises:
            InvalidRequest: the model cannot do it.
            QueueFull: too much waits here already, pictures or sketches.
            ModelUnavailable: this machine cannot hold the model.
        """
        self._studio.check_drawable(request, owner)
        if request.seed == RANDOM_SEED:
            request = request.with_seed(secrets.randbelow(MAX_SEED + 1))
        return self._studio.sketches.ask(owner, request)

    def _is_here(self, spec: ModelSpec) -> bool:
        """Whether a model can be drawn with at once, and is held as a whole."""
        plan = self._studio.plan(spec.key)
        is_whole = plan is None or plan.holding == "full"
        return is_whole and self._studio.availability(spec.key).state in HERE
