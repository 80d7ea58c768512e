"""Pictures that are drawn while a visitor types: the newest wish of each, kept by nobody."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from studio.errors import Cancelled, CroquisError, QueueFull
from studio.request import GenerationRequest

FINISH_S = 0.5
"""So young, a sketch is finished though a newer one is wanted: who types faster than the sketches
are drawn would see none of them otherwise."""
MOST_FINISH_S = 4.0
"""The same where they take longer: the time is doubled after one that was dropped."""
SPARE = 1.5
"""How much longer than the last one a sketch may take."""
_REPLACED = "A newer sketch is wanted."
_BUG = "Something went wrong while sketching. It is noted; go on writing, or press Create."
_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Sketch:
    """One wish. It is settled once it has a picture or an error; only `Sketches` changes it."""

    owner: str
    request: GenerationRequest
    begun_at: float | None = None
    """Monotonic seconds; None while it waits."""
    picture: bytes | None = None
    """A JPEG."""
    error: Exception | None = None

    @property
    def is_settled(self) -> bool:
        return self.picture is not None or self.error is not None


class Sketches:
    """One waiting wish and one sketch under way for each visitor at most. Thread-safe.

    Nothing of it is stored. Visitors take turns; a newer wish takes the place of an older one.

    Args:
        limit: visitors whose wishes may wait.
        wake: called when there may be something to take.
        finish_s: at first, and at least.
    """

    def __init__(
        self, limit: int, wake: Callable[[], None] = lambda: None, finish_s: float = FINISH_S
    ) -> None:
        self._limit = limit
        self._wake = wake
        self._least_finish_s = self._finish_s = finish_s
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, Sketch] = OrderedDict()  # whose turn is next first
        self._under_way: dict[str, Sketch] = {}
        self._closed = False

    # The page's side

    def ask(self, owner: str, request: GenerationRequest) -> Sketch:
        """Wish for a sketch in place of the older wish; the same wish again is that very one.

        Raises:
            QueueFull: too many visitors wait for sketches.
        """
        with self._changed:
            newest = self._waiting.get(owner) or self._under_way.get(owner)
            if newest is not None and newest.request == request and not newest.is_settled:
                return newest
            self._check_room(owner)
            self._settle(self._waiting.get(owner), error=Cancelled(_REPLACED))
            sketch = Sketch(owner, request)
            if self._closed:
                self._settle(sketch, error=Cancelled("Croquis is shutting down."))
            else:
                self._waiting[owner] = sketch  # in the place of the older one
        self._wake()
        return sketch

    def wait(self, sketch: Sketch, timeout_s: float) -> bytes | None:
        """Block until a sketch is there, as a JPEG; None when time is up.

        Raises:
            Cancelled: it gave way to a newer one, or was called off.
            CroquisError: whatever it failed with.
        """
        with self._changed:
            self._changed.wait_for(lambda: sketch.is_settled, timeout_s)
            if sketch.error is not None:
                raise sketch.error
            return sketch.picture

    def call_off(self, owner: str) -> None:
        """Forget what a visitor wished for; what is under way is stale at once."""
        with self._changed:
            for sketch in (self._waiting.pop(owner, None), self._under_way.get(owner)):
                self._settle(sketch, error=Cancelled("The sketch was called off."))

    def close(self) -> None:
        """Call off everything, and take no more wishes."""
        with self._changed:
            self._closed = True
            for owner in (*self._waiting, *self._under_way):
                self.call_off(owner)

    # The engine's side

    def take(self, may_take: Callable[[Sketch], bool] = lambda sketch: True) -> Sketch | None:
        """The wish whose turn it is, to be begun; None if there is none. It never waits.

        `may_take` is asked about the waiting ones in their order, and must not wait itself.
        """
        with self._changed:
            for owner, sketch in self._waiting.items():
                if owner not in self._under_way and may_take(sketch):
                    del self._waiting[owner]
                    self._under_way[owner] = sketch
                    sketch.begun_at = time.monotonic()
                    return sketch
        return None

    def is_stale(self, sketch: Sketch) -> bool:
        """Whether nobody wants it any more; asked before every step."""
        begun_at = sketch.begun_at
        if sketch.is_settled or begun_at is None:
            return sketch.is_settled
        return sketch.owner in self._waiting and time.monotonic() - begun_at > self._finish_s

    def deliver(self, sketch: Sketch, picture: bytes) -> None:
        """Hand over a JPEG to whoever waits for it."""
        self._end(sketch, picture=picture)

    def fail(self, sketch: Sketch, error: Exception) -> None:
        """Tell whoever waits why there is none: Cancelled if it was stale.

        What is no CroquisError is a bug and is logged.
        """
        if not isinstance(error, CroquisError):
            _log.error("A sketch failed", exc_info=error)
            error = CroquisError(_BUG)
        self._end(sketch, error=error)

    def _end(
        self, sketch: Sketch, picture: bytes | None = None, error: Exception | None = None
    ) -> None:
        with self._changed:
            if self._under_way.get(sketch.owner) is sketch:
                del self._under_way[sketch.owner]
            self._learn(sketch, is_dropped=isinstance(error, Cancelled))
            self._settle(sketch, picture, error)
            is_next = sketch.owner in self._waiting
        if is_next:
            self._wake()

    def _learn(self, sketch: Sketch, *, is_dropped: bool) -> None:
        """Find out how long sketches take here."""
        if is_dropped and sketch.owner in self._waiting:
            self._finish_s = min(2 * self._finish_s, MOST_FINISH_S)
        elif not is_dropped and sketch.begun_at is not None:
            took = SPARE * (time.monotonic() - sketch.begun_at)
            self._finish_s = min(max(took, self._least_finish_s), MOST_FINISH_S)

    def _settle(
        self, sketch: Sketch | None, picture: bytes | None = None, error: Exception | None = None
    ) -> None:
        if sketch is None or sketch.is_settled:
            return
        sketch.picture, sketch.error = picture, error
        self._changed.notify_all()

    def _check_room(self, owner: str) -> None:
        if owner not in self._waiting and len(self._waiting) >= self._limit:
            raise QueueFull(
                f"{len(self._waiting)} visitors wait for sketches, which is the most here. Go on "
                "writing and try again in a moment, or press Create."
            )
