"""Where more rows stop to pay, learnt from made-up seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipelines.knees import MOST_ROWS, SAMPLES, Knees

KIND = "model 4x64x64"


def settle(knees: Knees, seconds: Callable[[int], float], least: int = 2, calls: int = 100) -> int:
    """Make calls as large as is allowed, with more demand than that; the rows of the last."""
    rows = 0
    for _ in range(calls):
        rows = knees.most_rows(KIND, least)
        if knees.is_learning(KIND):
            knees.learn(KIND, rows, seconds(rows))
    return rows


def test_rows_grow_until_throughput_does_not() -> None:
    assert settle(Knees(), lambda rows: max(1.0, rows / 8)) == 8
    assert settle(Knees(), lambda rows: 1.0 + rows) == MOST_ROWS / 4  # +4 % from 16 to 32
    assert settle(Knees(), lambda rows: 1.0) == MOST_ROWS


def test_a_device_that_gains_nothing_draws_one_after_the_other() -> None:
    assert settle(Knees(), lambda rows: rows) == 2
    assert settle(Knees(), lambda rows: rows, least=1) == 1


def test_one_noisy_measurement_decides_nothing() -> None:
    counts = iter(range(1000))

    def seconds(rows: int) -> float:
        return max(1.0, rows / 8) * (5 if next(counts) % 4 == 0 else 1)

    assert settle(Knees(), seconds) == 8


def test_sizes_are_measured_in_turn() -> None:
    knees, seen = Knees(), []
    for _ in range(2 * SAMPLES):
        seen.append(rows := knees.most_rows(KIND, 2))
        knees.learn(KIND, rows, float(rows))
    assert seen == [4, 2] * SAMPLES


def test_what_is_found_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "knees.json"
    settle(Knees(path), lambda rows: max(1.0, rows / 8))
    again = Knees(path)
    assert not again.is_learning(KIND)
    assert again.most_rows(KIND, 2) == 8
    assert again.most_rows(KIND, 16) == 16
    assert again.is_learning("another")


def test_a_damaged_file_is_measured_anew(tmp_path: Path) -> None:
    path = tmp_path / "knees.json"
    for text in ("{", "[]", '{"kind": "many"}', "\x00"):
        path.write_text(text, encoding="utf-8")
        assert Knees(path).is_learning("kind")


def test_what_did_not_fit_is_not_tried_again() -> None:
    knees = Knees()
    knees.most_rows(KIND, 2)
    knees.limit(KIND, 4)
    assert knees.most_rows(KIND, 2) == 2
    assert not knees.is_learning(KIND)
