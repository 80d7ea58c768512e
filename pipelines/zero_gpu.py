"""Drawing on a Space whose GPU is lent for one call at a time (ZeroGPU).

There the models must be on "cuda" before the first call, and a decorated function works in a
process of its own, forked from this one: it has the models, but what it tells this one must be
yielded. See https://huggingface.co/docs/hub/spaces-zerogpu. Written after that page and tried
with the decorator that does nothing, as `spaces` has outside such a Space; not on one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines import drawing
from studio.errors import Cancelled, InvalidRequest

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from pipelines.drawing import Drawn
    from pipelines.loader import LoadedModel
    from pipelines.manager import PipelineManager
    from pipelines.steps import Watcher
    from studio.request import GenerationRequest
    from studio.specs import SchedulerSpec

GuessSeconds = Callable[["GenerationRequest"], "float | None"]

UNKNOWN_S = 60.0
"""What is asked for until a run was measured; a visitor's share of the GPU is counted by it."""
LEAST_S, MOST_S = 15, 240
MARGIN = 1.5

_Event = tuple[str, tuple[Any, ...]]


class ZeroGpu:
    """Has the preloaded models, and draws with them inside calls that are lent a GPU.

    Args:
        decorate: `spaces.GPU`, called with `duration=`.
        guess_s: seconds that a request will take, from measured runs; None is unknown.
    """

    def __init__(self, decorate: Callable[..., Any], guess_s: GuessSeconds) -> None:
        self._models: dict[str, LoadedModel] = {}
        self._keeping = ExitStack()
        self._guess_s = guess_s
        self._on_gpu = decorate(duration=self.duration_s)(self._events)

    def preload(self, manager: PipelineManager, keys: Sequence[str]) -> None:
        """Borrow models for good, for the processes that are forked later."""
        for key in keys:
            self._models[key] = self._keeping.enter_context(manager.borrow(key))

    def draw(
        self,
        loaded: LoadedModel,
        scheduler_spec: SchedulerSpec,
        request: GenerationRequest,
        indices: Sequence[int],
        watcher: Watcher,
        images: Mapping[str, Image.Image] | None = None,
        refiner: LoadedModel | None = None,
        embeddings: Mapping[str, torch.Tensor] | None = None,
    ) -> Iterator[Drawn]:
        """As `pipelines.drawing.draw`; raises InvalidRequest for a model that was changed."""
        if self._models.get(request.model) is not loaded:
            raise InvalidRequest(
                f"This Space draws with its own models as they are: leave out LoRAs, control and "
                f"reference pictures, and choose one of {', '.join(self._models)}."
            )
        refining = refiner.spec.key if refiner else None
        events = self._on_gpu(scheduler_spec, request, [*indices], images, refining, embeddings)
        for name, values in events:
            if watcher.is_cancelled():
                events.close()
                raise Cancelled("Stopped.")
            if name == "drawn":
                yield values[0]
            elif name == "failed":
                raise values[0]
            else:
                getattr(watcher, name)(*values)

    def duration_s(self, scheduler_spec: SchedulerSpec, request: Any, *rest: Any) -> int:
        """Seconds of GPU that a call asks for; the arguments are those of the call."""
        guess = self._guess_s(request)
        seconds = MARGIN * (UNKNOWN_S if guess is None else guess)
        return round(min(max(seconds, LEAST_S), MOST_S))

    def _events(
        self,
        scheduler_spec: SchedulerSpec,
        request: GenerationRequest,
        indices: list[int],
        images: Mapping[str, Image.Image] | None,
        refining: str | None,
        embeddings: Mapping[str, torch.Tensor] | None,
    ) -> Iterator[_Event]:
        """What happens while it is drawn, in order; runs where the GPU is."""
        told = _Teller()
        loaded, refiner = self._models[request.model], self._models.get(refining or "")

        def work() -> None:
            try:
                each = drawing.draw(
                    loaded, scheduler_spec, request, indices, told, images, refiner, embeddings
                )
                for drawn in each:
                    told.tell("drawn", drawn)
            except Exception as exc:
                told.tell("failed", exc)
            told.tell("end")

        thread = threading.Thread(target=work, name="zero-gpu")
        thread.start()
        try:
            while (event := told.events.get())[0] != "end":
                yield event
        finally:
            told.is_left = True
            thread.join()


@dataclass(slots=True)
class _Teller:
    """A watcher that puts what it hears into a queue."""

    events: queue.SimpleQueue[_Event] = field(default_factory=queue.SimpleQueue)
    is_left: bool = False

    def tell(self, name: str, *values: Any) -> None:
        self.events.put((name, values))

    def is_cancelled(self) -> bool:
        return self.is_left

    def is_watched(self) -> bool:
        return True

    def on_step(
        self, step: int, total_steps: int, image_index: int, preview: bytes | None, batch: int
    ) -> None:
        self.tell("on_step", step, total_steps, image_index, preview, batch)

    def on_message(self, text: str) -> None:
        self.tell("on_message", text)

    def add_note(self, text: str) -> None:
        self.tell("add_note", text)
