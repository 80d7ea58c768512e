"""The queue: owners take turns."""

from __future__ import annotations

import random

import pytest

from studio.queue import FairQueue


def drain(queue: FairQueue) -> list[str]:
    return [take(queue) for _ in range(len(queue))]


def take(queue: FairQueue) -> str:
    """The next job; a job's owner is its first letter."""
    job = queue.order()[0]
    queue.take(job[0], job)
    return job


def test_one_owner_is_served_in_order() -> None:
    queue = FairQueue()
    for job in ("a1", "a2", "a3"):
        queue.put("a", job)
    assert drain(queue) == ["a1", "a2", "a3"]


def test_owners_take_turns() -> None:
    queue = FairQueue()
    for job in ("a1", "a2", "a3", "b1", "c1", "c2"):
        queue.put(job[0], job)
    assert drain(queue) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_a_crowd_of_one_owner_delays_another_by_one_job() -> None:
    queue = FairQueue()
    for number in range(200):
        queue.put("a", f"a{number}")
    assert take(queue) == "a0"
    queue.put("b", "b0")
    assert drain(queue)[:3] == ["a1", "b0", "a2"]


def test_who_was_just_served_comes_back_at_the_end() -> None:
    queue = FairQueue()
    for job in ("a1", "b1", "c1"):
        queue.put(job[0], job)
    take(queue)
    queue.put("a", "a2")
    assert drain(queue) == ["b1", "c1", "a2"]


def test_removing_leaves_the_others_in_order() -> None:
    queue = FairQueue()
    for job in ("a1", "a2", "b1"):
        queue.put(job[0], job)
    queue.remove("a", "a1")
    queue.remove("a", "unknown")
    queue.remove("nobody", "a2")
    assert queue.order() == ["a2", "b1"]
    queue.remove("a", "a2")
    assert (len(queue), queue.count("a"), queue.count("b")) == (1, 0, 1)


def test_an_empty_queue() -> None:
    queue = FairQueue()
    assert queue.order() == []
    with pytest.raises(KeyError):
        queue.take("a", "a1")


def test_a_job_from_the_middle_costs_its_owner_a_turn() -> None:
    queue = FairQueue()
    for job in ("a1", "a2", "b1", "b2"):
        queue.put(job[0], job)
    queue.take("a", "a2")
    with pytest.raises(KeyError):
        queue.take("a", "a2")
    assert drain(queue) == ["b1", "a1", "b2"]


@pytest.mark.parametrize("seed", range(50))
def test_order_foretells_what_is_taken(seed: int) -> None:
    dice = random.Random(seed)
    queue = FairQueue()
    for number in range(dice.randint(1, 60)):
        owner = dice.choice("abcde")
        queue.put(owner, f"{owner}{number}")
        if dice.random() < 0.3:
            take(queue)
        if dice.random() < 0.2 and len(queue):
            job = dice.choice(queue.order())
            queue.remove(job[0], job)
    order = queue.order()
    assert drain(queue) == order
