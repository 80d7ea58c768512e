"""How long a benchmark may take: how often everything is repeated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How often and how much; a round takes every arm twice."""

    name: str
    rounds: int
    """Of what takes about a second."""
    long_rounds: int
    """Of what takes several."""
    longest_rounds: int
    """Of what takes many."""
    warm_ups: int
    """Of crowds, before anything counts: until the engine knows how many rows pay at once."""
    steps: int | None
    """Of a picture; None is as many as its model draws best with."""
    users: int
    """Who draw at once, where the goal names sixteen."""
    each: int
    """Pictures of each of them."""
    backlog: int
    """Jobs of one visitor that another one arrives behind."""
    visits: int
    """Of that late visitor, in each arm and half round."""
    switches: int
    """Between two models that do not fit together; the memory must not grow."""
    compared: int
    """Pictures that are drawn alone and in company."""


FULL = Effort(
    name="full",
    rounds=6,
    long_rounds=2,
    longest_rounds=1,
    warm_ups=2,
    steps=None,
    users=16,
    each=2,
    backlog=50,
    visits=5,
    switches=200,
    compared=40,
)
QUICK = Effort(
    name="quick",
    rounds=1,
    long_rounds=1,
    longest_rounds=1,
    warm_ups=1,
    steps=4,
    users=3,
    each=1,
    backlog=4,
    visits=1,
    switches=8,
    compared=4,
)
"""Shows that everything runs; its figures mean nothing."""
