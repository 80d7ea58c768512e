"""Many visitors at once, and one who comes late."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from lab.bench.house import House
from studio.request import GenerationRequest

COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "white", "black", "pink", "brown")
THINGS = ("house", "castle", "dress", "tree", "apple", "chair", "church", "mushroom", "star", "cup")
Orders = Mapping[str, Sequence[GenerationRequest]]
"""By owner, what each asks for, one after the other."""


def varied(request: GenerationRequest, number: int) -> GenerationRequest:
    """The same work for another picture: prompt and seed differ, so that nothing is known yet."""
    thing, colour = divmod(number % (len(COLOURS) * len(THINGS)), len(COLOURS))
    place = number // (len(COLOURS) * len(THINGS))
    words = f"a {COLOURS[colour]} {THINGS[thing]} number {place}"
    return replace(request, prompt=words, seed=number)


def same_orders(request: GenerationRequest, users: int, each: int, start: int = 0) -> Orders:
    """`each` different pictures of one shape for each of the users, counted from `start` on."""
    return {
        f"user-{user}": [varied(request, start + user * each + turn) for turn in range(each)]
        for user in range(users)
    }


def draw_together(house: House, orders: Orders) -> float:
    """Seconds until all are served; every owner submits when the picture before is there."""

    def draw_all(owner: str) -> None:
        for request in orders[owner]:
            house.draw(request, owner)

    with ThreadPoolExecutor(len(orders)) as pool:
        started = time.perf_counter()
        list(pool.map(draw_all, orders))
        return time.perf_counter() - started


class LateVisitor:
    """Comes again and again, at moments that the seed decides.

    Args:
        request: what the visitor wants, and what the one before wants many times over.
        pause_s: the longest time between two visits.
    """

    def __init__(self, house: House, request: GenerationRequest, pause_s: float) -> None:
        self._house = house
        self._request = request
        self._pause_s = pause_s
        self._dice = random.Random(1)
        self._number = 0

    def waits_alone(self, visits: int) -> list[float]:
        """Seconds of each visit, from the order to the picture."""
        return [self._visit() for _ in range(visits)]

    def waits_behind(self, backlog: int, visits: int) -> list[float]:
        """The same, each time behind one visitor who has `backlog` jobs."""
        waits = []
        for _ in range(visits):
            self._fill(backlog)
            waits.append(self._visit())
        self._house.empty_queue("early")
        return waits

    def _visit(self) -> float:
        time.sleep(self._dice.random() * self._pause_s)
        return self._house.draw(self._next(), "late")

    def _fill(self, backlog: int) -> None:
        studio = self._house.studio
        active = len(studio.jobs("early", active_only=True, limit=None))
        for _ in range(backlog - active):
            studio.submit(self._next(), "early")

    def _next(self) -> GenerationRequest:
        self._number += 1
        return varied(self._request, self._number)
