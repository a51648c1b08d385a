"""How different the renderings of one take are, and what having several of them is worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.distance import pdist
from scipy.special import gammaln

from restyler.evaluate.distribution import gaussian_kernel

LEAST_EIGENVALUE = 1e-12  # rounding


def pairwise_distance(vectors: np.ndarray) -> float:
    """Mean over all pairs of [items dims] of their root mean square difference over the dims, in the vectors' unit.

    Raises ValueError for fewer than two items.
    """
    if len(vectors) < 2:
        raise ValueError(f"pairs need two items or more, not {len(vectors)}")
    return float(pdist(vectors).mean() / np.sqrt(vectors.shape[1]))


def vendi_score(vectors: np.ndarray, bandwidth: float) -> float:
    """How many different items there are among [items dims], 1 to the number of items.

    exp of the entropy of the eigenvalues of K/n (Friedman & Dieng 2023, definition 3.1), K being the Gaussian kernel
    with this bandwidth: to be compared, scores need the same bandwidth and the same number of items.
    """
    return float(np.exp(_entropy(vectors, bandwidth)))


def conditional_vendi(groups: Sequence[np.ndarray], bandwidth: float) -> float:
    """How many different items a take has on average, from one group [items dims] for each take.

    exp(H(X, T) − H(T)) after Jalali et al. 2024 (arXiv:2411.02817): entropies of the eigenvalues of (K_X ∘ K_T)/n and
    of K_T/n. T is the take, so K_T is 1 within a take and 0 between two; what is left is the mean of the groups'
    entropies, weighted by their sizes. Differences between takes don't count, which the Vendi score of all items
    together can't tell from a model's own.
    """
    sizes = np.array([len(group) for group in groups])
    return float(np.exp(np.average([_entropy(group, bandwidth) for group in groups], weights=sizes)))


def best_of_n(scores: Sequence[float]) -> np.ndarray:
    """Expected lowest score among n of these N, for n = 1 … N, [N]: over all subsets, exactly.

    Unbiased for fresh draws (a U-statistic), where the lowest of the first n would be noisy. Raises ValueError for
    scores that are not finite, or none.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    if not ordered.size or not np.isfinite(ordered).all():
        raise ValueError("best of n needs scores, all finite")
    return np.asarray(best_of_n_chances(len(ordered)) @ ordered)


def best_of_n_chances(total: int) -> np.ndarray:
    """How likely the i-th lowest of N scores is the lowest among n of them drawn at random, [n = 1 … N, i = 1 … N].

    C(N − i, n − 1) / C(N, n): it is where it is drawn with n − 1 that are not lower.
    """
    n, rank = np.arange(1, total + 1)[:, None], np.arange(1, total + 1)[None]
    possible = rank <= total - n + 1
    worse = np.where(possible, total - rank, n - 1)
    return np.where(possible, np.exp(_log_choose(worse, n - 1) - _log_choose(np.full_like(n, total), n)), 0.0)


def _log_choose(among: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return np.asarray(gammaln(among + 1) - gammaln(chosen + 1) - gammaln(among - chosen + 1))


def _entropy(vectors: np.ndarray, bandwidth: float) -> float:
    """Von Neumann entropy of K/n in nats."""
    values = np.linalg.eigvalsh(gaussian_kernel(vectors, vectors, bandwidth) / len(vectors))
    values = values[values > LEAST_EIGENVALUE]
    return float(-np.sum(values * np.log(values)))
