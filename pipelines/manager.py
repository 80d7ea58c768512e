"""Keeps models in memory: loaded when wanted, shared, and evicted when room is needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast

from pipelines.device import release_memory
from pipelines.hub import size_text
from pipelines.parking import Parking, traces_of
from pipelines.slots import Sized, Slots
from studio.specs import TEXT_ENCODER

if TYPE_CHECKING:
    from pipelines.checkpoints import Checkpoint, OnMessage
    from pipelines.encoder import TextEncoder
    from pipelines.loader import LoadedModel, Loader
    from studio.catalogue import Catalogue

log = logging.getLogger(__name__)


_Found = TypeVar("_Found", bound=Sized)
_Loaded = TypeVar("_Loaded", bound=Sized)


class PipelineManager:
    """A cache of loaded models under a budget of bytes, least recently used out first.

    A borrowed model is never evicted, and neither is the one used last: a model larger than the
    budget is kept alone. Safe to use from several threads; two that want the same model wait for
    one load. Many works that take turns on one thread may borrow too, as long as none leaves its
    turn to another in the middle of a load: nothing but a load is ever waited for.

    Args:
        catalogue: where the models are looked up.
        loader: finds and loads checkpoints.
        budget_bytes: how many bytes of weights may stay loaded.
        on_state: told (key, "loading" | "loaded" | "unloaded") at every change.
        parking: where models wait that the budget has no room for; None frees them.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        loader: Loader,
        budget_bytes: int,
        on_state: Callable[[str, str], None] = lambda key, state: None,
        parking: Parking | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._loader = loader
        self._budget_bytes = budget_bytes
        self._on_state = on_state
        self._parking = parking
        self._slots = Slots()

    @property
    def nbytes(self) -> int:
        """Bytes of weights that are loaded, or have their room reserved."""
        return self._slots.nbytes

    def fits(self, key: str) -> bool:
        """Whether a model can be borrowed beside those that are, without exceeding the budget.

        What is not loaded counts with the size in its table, which may differ from its files'.
        """
        needed, in_use = self._slots.size_of(key), self._slots.borrowed_bytes
        if needed is None and self._parking:
            needed = self._parking.size_of(key)
        if needed is None:
            needed = int(self._catalogue.get_model(key).memory_gb * 10**9)
        return not needed or not in_use or in_use + needed <= self._budget_bytes

    @contextmanager
    def borrow(self, key: str, on_message: OnMessage = lambda text: None) -> Iterator[LoadedModel]:
        """Lend a model, loaded if need be; it stays in memory until it is given back.

        Raises:
            UnknownModel: the catalogue has no such key.
            ModelUnavailable: the checkpoint cannot be had.
        """
        spec = self._catalogue.get_model(key)

        def find() -> Checkpoint:
            return self._loader.find(spec, on_message)

        with self._borrowed(key, spec.title, find, self._loader.load, on_message) as model:
            yield model

    @contextmanager
    def borrow_part(
        self,
        key: str,
        title: str,
        find: Callable[[], _Found],
        load: Callable[[_Found], _Loaded],
        on_message: OnMessage = lambda text: None,
    ) -> Iterator[_Loaded]:
        """Lend what goes with a model, such as a ControlNet: kept and counted as a model is.

        Args:
            key: no model's.
            find: looks for its files; the result knows how many `nbytes` they will take.
            load: loads them; the result knows how many `nbytes` it takes.
        """
        with self._borrowed(key, title, find, load, on_message) as part:
            yield part

    @contextmanager
    def borrow_encoder(self, key: str, on_message: OnMessage) -> Iterator[TextEncoder]:
        """Lend the text encoder of a model, loaded alone; it is freed when it is given back.

        Raises:
            UnknownModel: the catalogue has no such key.
            ModelUnavailable: the checkpoint cannot be had.
        """
        spec = self._catalogue.get_model(key)
        part = f"{key}/{TEXT_ENCODER}"

        def find() -> Checkpoint:
            return self._loader.find_encoder(spec, on_message)

        title = f"the text encoder of {spec.title}"
        load = self._loader.load_encoder
        try:
            with self.borrow_part(part, title, find, load, on_message) as encoder:
                yield encoder
                del encoder
        finally:
            self.evict(part)

    @contextmanager
    def _borrowed(
        self,
        key: str,
        title: str,
        find: Callable[[], _Found],
        load: Callable[[_Found], _Loaded],
        on_message: OnMessage,
    ) -> Iterator[_Loaded]:
        lent = self._slots.take(key) or self._load(key, title, find, load, on_message)
        try:
            yield cast("_Loaded", lent)
        finally:
            del lent
            self._give_back(key)

    def count_added(self, key: str, nbytes: int) -> None:
        """Count what was added to a model that is borrowed, until that is freed; idle ones go.

        Args:
            nbytes: in the place of what was counted before; 0 is nothing any more.
        """
        self._slots.count_added(key, nbytes)
        self._make_room()

    def evict(self, key: str) -> bool:
        """Free a model's memory, also where it waits; False if it is not loaded, or borrowed."""
        if self._parking:
            self._parking.drop(key)
        return self._push_out(key)

    def _push_out(self, key: str, wanted: str | None = None) -> bool:
        """Take an idle model off the device; with `wanted` to make room, and it waits in RAM.

        Looking for garbage takes 0.3 s: that is done only where the model would stay without.
        """
        slot = self._slots.pop_idle(key)
        if slot is None:
            return False
        if self._parking and wanted is not None:
            self._parking.park(key, slot.model, wanted)
        traces = traces_of(slot.model)
        del slot
        if wanted is None or not traces or any(trace() is not None for trace in traces):
            release_memory()
        self._tell(key, "unloaded")
        return True

    def close(self) -> None:
        """Free every model that is not borrowed, and lend no more."""
        for key in self._slots.close():
            self.evict(key)
        if self._parking:
            self._parking.clear()

    def _load(
        self,
        key: str,
        title: str,
        find: Callable[[], _Found],
        load: Callable[[_Found], _Loaded],
        on_message: OnMessage,
    ) -> _Loaded:
        """Load into the slot that was opened for it."""
        self._tell(key, "loading")
        try:
            loaded = self._fetch(key)
            if loaded is None:
                found = find()
                self._reserve(key, found.nbytes)
                on_message(f"Loading {title}, {size_text(found.nbytes)}")
                loaded = load(found)
        except BaseException:
            self._slots.abandon(key)
            self._tell(key, "unloaded")
            raise
        self._slots.fill(key, loaded)
        self._tell(key, "loaded")
        return cast("_Loaded", loaded)

    def _fetch(self, key: str) -> Sized | None:
        """Bring a model back that waits in RAM; None if it does not."""
        nbytes = self._parking.size_of(key) if self._parking else None
        if self._parking is None or nbytes is None:
            return None
        self._reserve(key, nbytes)
        return self._parking.fetch(key)

    def _reserve(self, key: str, nbytes: int) -> None:
        self._slots.reserve(key, nbytes)
        self._make_room(key)

    def _tell(self, key: str, state: str) -> None:
        """Report the state of a model; parts are nobody's choice."""
        if key in self._catalogue.models:
            self._on_state(key, state)

    def _make_room(self, wanted: str = "") -> None:
        """Push idle models out until all fit into the budget; the one used last stays."""
        for key in self._slots.spare():
            if self.nbytes > self._budget_bytes:
                self._push_out(key, wanted)

    def _give_back(self, key: str) -> None:
        self._slots.give_back(key)
        if self._slots.is_closed:
            self.evict(key)
        else:
            self._make_room()
