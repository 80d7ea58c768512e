"""Keeps models in memory: loaded when wanted, shared, and evicted when room is needed."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.device import release_memory
from pipelines.hub import size_text
from studio.errors import Cancelled

if TYPE_CHECKING:
    from pipelines.loader import LoadedModel, Loader, OnMessage
    from studio.catalogue import Catalogue
    from studio.specs import ModelSpec

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Slot:
    """The place of one model; `model` is None while it loads."""

    model: LoadedModel | None = None
    nbytes: int = 0
    borrowers: int = 1


class PipelineManager:
    """A cache of loaded models under a budget of bytes, least recently used out first.

    A borrowed model is never evicted, and neither is the one used last: a model larger than the
    budget is kept alone. Safe to use from several threads; two that want the same model wait for
    one load.

    Args:
        catalogue: where the models are looked up.
        loader: finds and loads checkpoints.
        budget_bytes: how many bytes of weights may stay loaded.
        on_state: told (key, "loading" | "loaded" | "unloaded") at every change.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        loader: Loader,
        budget_bytes: int,
        on_state: Callable[[str, str], None] = lambda key, state: None,
    ) -> None:
        self._catalogue = catalogue
        self._loader = loader
        self._budget_bytes = budget_bytes
        self._on_state = on_state
        self._slots: OrderedDict[str, _Slot] = OrderedDict()  # least recently used first
        self._changed = threading.Condition()
        self._is_closed = False

    @property
    def nbytes(self) -> int:
        """Bytes of weights that are loaded, or have their room reserved."""
        with self._changed:
            return sum(slot.nbytes for slot in self._slots.values())

    @contextmanager
    def borrow(self, key: str, on_message: OnMessage = lambda text: None) -> Iterator[LoadedModel]:
        """Lend a model, loaded if need be; it stays in memory until it is given back.

        Raises:
            UnknownModel: the catalogue has no such key.
            ModelUnavailable: the checkpoint cannot be had.
        """
        spec = self._catalogue.get_model(key)
        model = self._take(key) or self._load(spec, on_message)
        try:
            yield model
        finally:
            del model
            self._give_back(key)

    def evict(self, key: str) -> bool:
        """Free a model's memory; False if it is not loaded, or borrowed."""
        with self._changed:
            slot = self._slots.get(key)
            if slot is None or slot.borrowers:
                return False
            del self._slots[key], slot
        release_memory()
        self._on_state(key, "unloaded")
        return True

    def close(self) -> None:
        """Free every model that is not borrowed, and lend no more."""
        with self._changed:
            self._is_closed = True
            keys = tuple(self._slots)
        for key in keys:
            self.evict(key)

    def _take(self, key: str) -> LoadedModel | None:
        """Borrow a loaded model, wait for one that loads, or reserve the slot and return None."""
        with self._changed:
            while True:
                if self._is_closed:
                    raise Cancelled("Croquis is shutting down.")
                slot = self._slots.get(key)
                if slot is None:
                    self._slots[key] = _Slot()
                    return None
                if slot.model is not None:
                    slot.borrowers += 1
                    self._slots.move_to_end(key)
                    return slot.model
                self._changed.wait()

    def _load(self, spec: ModelSpec, on_message: OnMessage) -> LoadedModel:
        """Fill the slot that `_take` reserved."""
        self._on_state(spec.key, "loading")
        try:
            checkpoint = self._loader.find(spec, on_message)
            with self._changed:
                self._slots[spec.key].nbytes = checkpoint.nbytes
            self._make_room()
            on_message(f"Loading {spec.title}, {size_text(checkpoint.nbytes)}")
            model = self._loader.load(checkpoint)
        except BaseException:
            with self._changed:
                del self._slots[spec.key]
                self._changed.notify_all()
            self._on_state(spec.key, "unloaded")
            raise
        with self._changed:
            slot = self._slots[spec.key]
            slot.model, slot.nbytes = model, model.nbytes
            self._changed.notify_all()
        self._on_state(spec.key, "loaded")
        return model

    def _make_room(self) -> None:
        """Evict idle models until all fit into the budget; the one used last stays."""
        with self._changed:
            idle = [key for key, slot in self._slots.items() if not slot.borrowers]
            last = next(reversed(self._slots), None)
        for key in idle:
            if self.nbytes > self._budget_bytes and key != last:
                self.evict(key)

    def _give_back(self, key: str) -> None:
        with self._changed:
            self._slots[key].borrowers -= 1
        if self._is_closed:
            self.evict(key)
        else:
            self._make_room()
