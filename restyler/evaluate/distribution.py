"""How far a set of renderings is from a set of mixes, as distributions of feature vectors.

Raw distances depend on the vectors' units: bring them to those of the reference with `standardised` first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.distance import cdist, pdist

KAD_SCALE = 100.0


def kad(
    reference: np.ndarray,
    estimate: np.ndarray,
    bandwidth: float | None = None,
    *,
    songs: tuple[Sequence[str], Sequence[str]] | None = None,
) -> float:
    """Kernel distance of two sets of vectors, [items dims] each: 100 × the unbiased MMD², lower is nearer.

    MMD² after Gretton et al. 2012 (equation 3) with the kernel exp(−|x − y|²/2b²); as KAD (Chung et al. 2025) b is
    `median_distance` of the reference unless given. Unbiased, so it spreads around 0 for two sets of one distribution
    and may be negative; not symmetric, since the bandwidth is the reference's.
    songs: of each item of both sets, where items of one song share more than their set (its voice, or the take of
    several draws): then only pairs of different songs count, for else a set has a distance to itself, below 0.
    Raises ValueError for fewer than two items, different dims, values that are not finite, and a reference without
    spread.
    """
    _check(reference, estimate)
    width = median_distance(reference) if bandwidth is None else bandwidth
    first, second = (
        map(np.asarray, songs) if songs else (np.arange(len(reference)), len(reference) + np.arange(len(estimate)))
    )

    def mean(x: np.ndarray, y: np.ndarray, different: np.ndarray) -> float:
        return float(gaussian_kernel(x, y, width)[different].mean())

    within = mean(reference, reference, first[:, None] != first) + mean(estimate, estimate, second[:, None] != second)
    return KAD_SCALE * (within - 2 * mean(reference, estimate, first[:, None] != second))


def fad(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Fréchet distance of the Gaussians with the mean and covariance of two sets, [items dims] each, lower is nearer.

    |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½) (Dowson & Landau 1982; Heusel et al. 2017, equation 6; for audio Kilgour et al.
    2019). Covariances from few items are biased, and so is the distance: with fewer than some ten items for each dim
    compare only sets of one size. Raises ValueError as `kad` does, but for a reference without spread.
    """
    _check(reference, estimate)
    means = [one.mean(0) for one in (reference, estimate)]
    first, second = (np.atleast_2d(np.cov(one, rowvar=False)) for one in (reference, estimate))
    root = _root(first)
    # tr (Σ₁Σ₂)^½ is that of the symmetric (Σ₁^½ Σ₂ Σ₁^½)^½, whose eigenvalues are real also where Σ is singular.
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    return float(np.sum((means[0] - means[1]) ** 2) + np.trace(first) + np.trace(second) - 2 * shared)


def standardised(reference: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Reference and others [items dims] in units of the reference's mean and standard deviation in each dim.

    A dim in which the reference doesn't vary is left out of all: it has no unit.
    """
    mean, deviation = reference.mean(0), reference.std(0)
    varies = deviation > 0
    return [(one[:, varies] - mean[varies]) / deviation[varies] for one in (reference, *others)]


def median_distance(vectors: np.ndarray) -> float:
    """Median Euclidean distance of all pairs of [items dims]: the usual bandwidth of a Gaussian kernel."""
    return float(np.median(pdist(vectors)))


def gaussian_kernel(x: np.ndarray, y: np.ndarray, bandwidth: float) -> np.ndarray:
    """exp(−|x − y|²/2b²) of every pair, [items of x, items of y]. Raises ValueError for a bandwidth that is not > 0."""
    if not bandwidth > 0:
        raise ValueError(f"a kernel's bandwidth is over 0, not {bandwidth}; do all vectors agree?")
    return np.asarray(np.exp(-cdist(x, y, "sqeuclidean") / (2 * bandwidth**2)))


def _root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def _check(*sets: np.ndarray) -> None:
    if any(one.ndim != 2 or len(one) < 2 for one in sets) or len({one.shape[1] for one in sets}) != 1:
        raise ValueError(f"two sets of two vectors or more, of one size, not {[list(one.shape) for one in sets]}")
    if not all(np.isfinite(one).all() for one in sets):
        raise ValueError("the vectors of a distribution are finite")
