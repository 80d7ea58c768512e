"""The figures as formulas: Frechet distance, kernel distance and Inception Score, numpy only."""

from __future__ import annotations

import numpy as np

KERNEL_BLOCK = 1000
"""Pictures that the kernel distance compares at once, as in the paper (arXiv:1801.01401)."""


def gaussian_distance(
    mean: np.ndarray, covariance: np.ndarray, other_mean: np.ndarray, other_covariance: np.ndarray
) -> float:
    """Return the squared Frechet distance of two Gaussians: means (D,), covariances (D, D).

    Dowson and Landau (1982): |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)).
    """
    # The product of two covariances has real eigenvalues >= 0; rounding may leave them just below.
    eigenvalues = np.linalg.eigvals(covariance @ other_covariance).real
    root_trace = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    apart = mean - other_mean
    return float(apart @ apart + np.trace(covariance) + np.trace(other_covariance) - 2 * root_trace)


def frechet_distance(features: np.ndarray, others: np.ndarray) -> float:
    """Return the squared Frechet distance of the Gaussians fitted to (N, D) and (M, D) features.

    With centred features A and B, the eigenvalues of C C' are the squared singular values of
    A B^T / sqrt((N - 1) (M - 1)): no covariance is inverted or rooted, so fewer pictures than
    features do no harm to the arithmetic. (They do bias the figure upwards, as always.)
    """
    one, other = features.astype(np.float64), others.astype(np.float64)
    apart = one.mean(0) - other.mean(0)
    one, other = _scaled(one), _scaled(other)
    root_trace = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    return float(apart @ apart + (one**2).sum() + (other**2).sum() - 2 * root_trace)


def _scaled(features: np.ndarray) -> np.ndarray:
    """Return at most D rows whose sum of outer products is the covariance of the features."""
    centred = (features - features.mean(0)) / np.sqrt(len(features) - 1)
    return centred if len(centred) <= centred.shape[1] else np.linalg.qr(centred, mode="r")


def kernel_distance(features: np.ndarray, others: np.ndarray) -> float:
    """Return the unbiased squared MMD of (N, D) and (M, D) features; it may fall just below 0.

    The kernel is (x.y / D + 1)^3. Of more than `KERNEL_BLOCK` pictures it is the mean over
    disjoint blocks, in the order given.
    """
    blocks = -(-max(len(features), len(others)) // KERNEL_BLOCK)
    pairs = zip(np.array_split(features, blocks), np.array_split(others, blocks), strict=True)
    return float(np.mean([_unbiased_mmd(one, other) for one, other in pairs]))


def _unbiased_mmd(one: np.ndarray, other: np.ndarray) -> float:
    n, m = len(one), len(other)
    within, beside, between = _kernel(one, one), _kernel(other, other), _kernel(one, other)
    return (
        (within.sum() - np.trace(within)) / (n * (n - 1))
        + (beside.sum() - np.trace(beside)) / (m * (m - 1))
        - 2 * between.mean()
    )


def _kernel(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one.astype(np.float64) @ other.astype(np.float64).T / one.shape[1] + 1) ** 3


def inception_score(probabilities: np.ndarray) -> float:
    """Return exp(mean KL(p(y|x) || p(y))) of class probabilities (N, K): from 1 to K.

    Salimans et al. (arXiv:1606.03498). All pictures count as one group; the paper splits 50,000
    into ten, which only lowers the figure when there are fewer.
    """
    each = probabilities.astype(np.float64)
    marginal = each.mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(each > 0, each * (np.log(each) - np.log(marginal)), 0)
    return float(np.exp(terms.sum(1).mean()))
