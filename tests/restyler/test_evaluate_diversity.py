"""Diversity: closed forms, the definitions written out, enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from restyler.evaluate.distribution import gaussian_kernel
from restyler.evaluate.diversity import best_of_n, conditional_vendi, pairwise_distance, vendi_score


@pytest.fixture
def random():
    return np.random.default_rng(0)


def entropy(matrix):
    """−tr(A log A) of a positive semidefinite matrix, by its singular values."""
    values = np.linalg.svd(matrix, compute_uv=False)
    values = values[values > 1e-14]
    return -np.sum(values * np.log(values))


def test_pairwise_distance_is_the_mean_over_pairs(random):
    vectors = random.normal(size=(6, 5))
    expected = np.mean([np.sqrt(np.mean((a - b) ** 2)) for a, b in itertools.combinations(vectors, 2)])
    assert pairwise_distance(vectors) == pytest.approx(expected)
    assert pairwise_distance(np.array([[0.0, 0.0], [3.0, 3.0]])) == pytest.approx(3)
    with pytest.raises(ValueError, match="two items"):
        pairwise_distance(vectors[:1])


def test_vendi_of_copies_is_one_and_of_strangers_their_number(random):
    assert vendi_score(np.ones((9, 4)), 1.0) == pytest.approx(1)
    assert vendi_score(100 * np.eye(9), 1.0) == pytest.approx(9)
    three_kinds = np.repeat(100 * np.eye(3), 4, axis=0)
    assert vendi_score(three_kinds, 1.0) == pytest.approx(3)


def test_vendi_of_two_has_its_closed_form():
    """Eigenvalues (1 ± k)/2."""
    k = np.exp(-0.5)
    shares = np.array([1 + k, 1 - k]) / 2
    assert vendi_score(np.array([[0.0], [2.0]]), 2.0) == pytest.approx(np.exp(-np.sum(shares * np.log(shares))))


def test_conditional_vendi_is_that_of_the_joint_kernel(random):
    """exp(H(X, T) − H(T)) with the Hadamard product of both kernels over all items, as it is defined."""
    groups = [random.normal(size=(size, 3)) + random.normal(size=3) * 5 for size in (4, 4, 7)]
    everything = np.concatenate(groups)
    take = np.repeat(np.arange(3), [len(group) for group in groups])
    same = (take[:, None] == take[None]).astype(float)
    joint = gaussian_kernel(everything, everything, 1.3) * same
    expected = np.exp(entropy(joint / len(take)) - entropy(same / len(take)))
    assert conditional_vendi(groups, 1.3) == pytest.approx(expected)


def test_conditional_vendi_does_not_count_differences_between_takes(random):
    """A model that gives each take one answer has none of its own diversity, however much the takes differ."""
    takes = 50 * random.normal(size=(5, 4))
    one_answer = [np.repeat(take[None], 3, axis=0) for take in takes]
    assert conditional_vendi(one_answer, 1.0) == pytest.approx(1)
    assert vendi_score(np.concatenate(one_answer), 1.0) == pytest.approx(5)
    three = [take + 50 * random.normal(size=(3, 4)) for take in takes]
    assert conditional_vendi(three, 1.0) == pytest.approx(3)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_best_of_n_is_the_mean_over_all_subsets(random, count):
    scores = np.round(random.normal(size=count), 1)  # with ties
    expected = [np.mean([min(chosen) for chosen in itertools.combinations(scores, n)]) for n in range(1, count + 1)]
    assert best_of_n(scores) == pytest.approx(expected)


def test_best_of_n_is_right_for_many_draws():
    """Of 1 … N the lowest of n has the mean (N + 1)/(n + 1)."""
    curve = best_of_n(np.arange(200, 0, -1))
    assert curve == pytest.approx(201 / (np.arange(1, 201) + 1))


def test_best_of_nothing_is_refused():
    with pytest.raises(ValueError, match="finite"):
        best_of_n([1.0, np.nan])
    with pytest.raises(ValueError, match="needs scores"):
        best_of_n([])
