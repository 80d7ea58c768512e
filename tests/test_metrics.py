"""The figures of lab.metrics against values that are known without a computer."""

from __future__ import annotations

import numpy as np
import pytest

from lab.metrics.distances import (
    KERNEL_BLOCK,
    frechet_distance,
    gaussian_distance,
    inception_score,
    kernel_distance,
)
from lab.metrics.intervals import jackknife, wilson
from lab.metrics.ranking import ask, r_precision, rank


def cloud(count: int, size: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (count, size))


def test_frechet_distance_of_gaussians_apart_by_their_means_and_spreads():
    # |0 - 3|^2 + |0 - 4|^2 + (1 - 2)^2 + (2 - 5)^2: independent axes add up.
    apart = gaussian_distance(
        np.zeros(2), np.diag([1.0, 4.0]), np.array([3.0, 4.0]), np.diag([4.0, 25.0])
    )
    assert apart == pytest.approx(9 + 16 + 1 + 9)


def test_frechet_distance_of_correlated_gaussians():
    # Covariances that share their axes: the deviations' differences, squared, in any rotation.
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    one = turn @ np.diag([1.0, 9.0, 4.0]) @ turn.T
    other = turn @ np.diag([16.0, 9.0, 1.0]) @ turn.T
    assert gaussian_distance(np.zeros(3), one, np.zeros(3), other) == pytest.approx(9 + 0 + 1)


@pytest.mark.parametrize("count, others", [(200, 300), (30, 300), (12, 9)])
def test_frechet_distance_of_samples_is_that_of_their_moments(count, others):
    # 12 and 9 samples of 16 features: their covariances are singular.
    one, other = cloud(count, 16, 0), cloud(others, 16, 1, shift=0.5)
    moments = [(x.mean(0), np.cov(x, rowvar=False)) for x in (one, other)]
    assert frechet_distance(one, other) == pytest.approx(
        gaussian_distance(*moments[0], *moments[1])
    )


def test_a_set_is_at_no_frechet_distance_from_itself():
    assert frechet_distance(cloud(40, 64, 0), cloud(40, 64, 0)) == pytest.approx(0, abs=1e-9)


def test_moving_a_set_adds_the_square_of_the_way():
    one = cloud(50, 8, 0)
    assert frechet_distance(one, one + 2.0) == pytest.approx(8 * 4.0)


def test_a_classifier_that_sees_nothing_scores_one():
    assert inception_score(np.full((30, 10), 0.1)) == pytest.approx(1)


def test_a_certain_classifier_of_every_class_scores_their_number():
    assert inception_score(np.tile(np.eye(10), (5, 1))) == pytest.approx(10)


def test_pictures_of_one_class_score_one():
    assert inception_score(np.tile(np.eye(10)[3], (5, 1))) == pytest.approx(1)


def direct_mmd(one: np.ndarray, other: np.ndarray) -> float:
    def kernel(x, y):
        return (float(x @ y) / len(x) + 1) ** 3

    def among(rows):
        n = len(rows)
        pairs = [kernel(rows[i], rows[j]) for i in range(n) for j in range(n) if i != j]
        return sum(pairs) / (n * (n - 1))

    between = np.mean([kernel(x, y) for x in one for y in other])
    return among(one) + among(other) - 2 * between


def test_kernel_distance_is_the_formula_of_its_paper():
    one, other = cloud(9, 5, 0), cloud(7, 5, 1, shift=1.0)
    assert kernel_distance(one, other) == pytest.approx(direct_mmd(one, other))


def test_kernel_distance_is_unbiased():
    # Of many pairs drawn from one distribution the mean is nought, within its own error.
    values = [kernel_distance(cloud(30, 8, seed), cloud(30, 8, 1000 + seed)) for seed in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(300)
    assert kernel_distance(cloud(30, 8, 0), cloud(30, 8, 1, shift=1.0)) > 10 * np.std(values)


def test_many_pictures_are_compared_in_blocks():
    one, other = cloud(2 * KERNEL_BLOCK, 4, 0), cloud(2 * KERNEL_BLOCK, 4, 1, shift=0.3)
    halves = [
        kernel_distance(one[part], other[part])
        for part in (slice(0, KERNEL_BLOCK), slice(KERNEL_BLOCK, None))
    ]
    assert kernel_distance(one, other) == pytest.approx(np.mean(halves))


CAPTIONS = [(f"picture number {number}",) for number in range(150)]


def test_a_perfect_ranking_has_an_r_precision_of_one():
    queries = ask(CAPTIONS)
    assert queries.candidates.shape == (150, 100)
    assert (rank(np.eye(150), np.eye(150), queries) == 1).all()


def test_a_random_ranking_has_an_r_precision_of_about_a_hundredth():
    queries = ask([(f"picture number {number}",) for number in range(3000)])
    scores = np.random.default_rng(0).random(queries.candidates.shape)
    hits = r_precision(scores, queries.relevant)
    low, high = wilson(int(hits.sum()), len(hits))
    assert low < 0.01 < high and high - low < 0.01
    assert queries.chance == pytest.approx(0.01)


def test_who_cannot_tell_descriptions_apart_gets_nothing():
    queries = ask(CAPTIONS)
    assert r_precision(np.zeros(queries.candidates.shape), queries.relevant).sum() == 0


def test_of_three_descriptions_two_found_among_the_first_three_are_two_thirds():
    relevant = np.array([[True, True, True, False, False]])
    assert r_precision(np.array([[9.0, 8.0, 1.0, 7.0, 0.0]]), relevant) == pytest.approx(2 / 3)


def test_nobody_is_asked_to_tell_equal_descriptions_apart():
    queries = ask([("a cat",), ("a dog",), ("a cat",)])
    assert queries.texts == ["a cat", "a dog"]
    assert [list(row) for row in queries.candidates] == [[0, 1], [1, 0], [0, 1]]


def test_the_candidates_are_the_same_every_time():
    assert (ask(CAPTIONS).candidates == ask(CAPTIONS).candidates).all()


def test_an_interval_of_a_share_holds_it():
    low, high = wilson(180, 200)
    assert 0.84 < low < 0.9 < high < 0.94


def test_the_jackknife_of_a_mean_is_its_textbook_error():
    values = cloud(2000, 1, 0)[:, 0]
    low, high = jackknife(lambda rows: float(rows.mean()), values)
    assert (high - low) / 2 == pytest.approx(1.96 / np.sqrt(2000), rel=0.4)
    assert (low + high) / 2 == pytest.approx(values.mean())


def test_the_jackknife_covers_the_truth_as_often_as_it_says():
    # The variance of a normal sample: 95 % of the intervals should hold 1.
    held = 0
    for seed in range(200):
        low, high = jackknife(lambda rows: float(rows.var(ddof=1)), cloud(200, 1, seed)[:, 0])
        held += low < 1 < high
    assert 178 <= held <= 199


def test_too_few_pictures_have_no_interval():
    assert jackknife(lambda rows: float(rows.mean()), np.zeros(39)) is None
