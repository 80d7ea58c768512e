"""The places of the models in memory: which are there, what they take, and who has them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

from studio.errors import Cancelled


class Sized(Protocol):
    """What takes memory, or will."""

    @property
    def nbytes(self) -> int:
        """Bytes of its weights."""


@dataclass(slots=True)
class Slot:
    """The place of one model; `model` is None while it loads."""

    model: Sized | None = None
    weights: int = 0
    """Bytes, from when they are known."""
    added: int = 0
    """Bytes of what was added to it and stays with it, such as a LoRA."""
    borrowers: int = 1
    thread: int = field(default_factory=threading.get_ident)
    """Which one loads it."""

    @property
    def nbytes(self) -> int:
        return self.weights + self.added


class Slots:
    """A table of slots, safe to use from several threads. Nothing but a load is ever waited for."""

    def __init__(self) -> None:
        self._slots: OrderedDict[str, Slot] = OrderedDict()  # least recently used first
        self._changed = threading.Condition()
        self.is_closed = False

    @property
    def nbytes(self) -> int:
        """Bytes of weights that are loaded, or have their room reserved."""
        with self._changed:
            return sum(slot.nbytes for slot in self._slots.values())

    @property
    def borrowed_bytes(self) -> int:
        """The same of what somebody has."""
        with self._changed:
            return sum(slot.nbytes for slot in self._slots.values() if slot.borrowers)

    def size_of(self, key: str) -> int | None:
        """Bytes of a loaded model that nobody has; None if it is not loaded, 0 if in use."""
        with self._changed:
            slot = self._slots.get(key)
            if slot is None:
                return None
            return 0 if slot.borrowers else slot.nbytes

    def take(self, key: str) -> Sized | None:
        """Borrow a loaded model, wait for one that loads, or open a slot to load it into.

        Returns:
            None if the caller is to load it, and then to `fill` the slot or to `abandon` it.

        Raises:
            Cancelled: the table is closed.
            RuntimeError: what would be waited for is on this thread, and never goes on.
        """
        with self._changed:
            while True:
                if self.is_closed:
                    raise Cancelled("Croquis is shutting down.")
                slot = self._slots.get(key)
                if slot is None:
                    self._slots[key] = Slot()
                    return None
                if slot.model is not None:
                    slot.borrowers += 1
                    self._slots.move_to_end(key)
                    return slot.model
                if slot.thread == threading.get_ident():
                    raise RuntimeError(f"the load of {key} gave its turn away on its own thread")
                self._changed.wait()

    def reserve(self, key: str, nbytes: int) -> None:
        """Say what a model that loads will take."""
        with self._changed:
            self._slots[key].weights = nbytes

    def fill(self, key: str, model: Sized) -> None:
        """Put a loaded model in its slot."""
        with self._changed:
            slot = self._slots[key]
            slot.model, slot.weights = model, model.nbytes
            self._changed.notify_all()

    def abandon(self, key: str) -> None:
        """Close the slot of a model that could not be loaded."""
        with self._changed:
            del self._slots[key]
            self._changed.notify_all()

    def count_added(self, key: str, nbytes: int) -> None:
        """Say what was added to a borrowed model, in the place of what was said before."""
        with self._changed:
            self._slots[key].added = nbytes

    def give_back(self, key: str) -> None:
        with self._changed:
            self._slots[key].borrowers -= 1

    def pop_idle(self, key: str) -> Slot | None:
        """Close the slot of a model that nobody has; None if there is none."""
        with self._changed:
            slot = self._slots.get(key)
            return None if slot is None or slot.borrowers else self._slots.pop(key)

    def spare(self) -> list[str]:
        """Keys of models that nobody has, least recently used first, without the last used one."""
        with self._changed:
            last = next(reversed(self._slots), None)
            return [k for k, slot in self._slots.items() if not slot.borrowers and k != last]

    def close(self) -> tuple[str, ...]:
        """Let nothing be borrowed any more; the keys of what is there."""
        with self._changed:
            self.is_closed = True
            return tuple(self._slots)
