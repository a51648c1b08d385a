"""Bradley and Terry's model of paired comparisons: one strength for each condition, from who was preferred to whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.sparse.csgraph import connected_components
from scipy.special import logsumexp

from restyler.evaluate.intervals import Interval
from restyler.listen.anova import contrasts
from restyler.listen.answers import Answer

STEPS = 100
TOLERANCE = 1e-9
HIGHEST = 20.0  # of ln strengths: odds that no listening test can tell from certainty


class PairsModel(NamedTuple):
    """log_strengths: of each condition, their mean is 0; the odds that one is preferred to another are exp(difference).

    deviations: their standard errors as if every answer were a listener of its own. intervals: with errors that allow
    for listeners who differ, or None where there are no more listeners than parameters. tie: log ν of Davidson's model,
    None where there was no tie. comparisons: answers.
    """

    conditions: tuple[str, ...]
    comparisons: int
    ties: int
    log_strengths: tuple[float, ...]
    deviations: tuple[float, ...]
    intervals: tuple[Interval, ...] | None
    tie: float | None


def pairs_model(answers: Sequence[Answer], *, level: float) -> PairsModel | str:
    """Maximum likelihood (Bradley & Terry 1952) of ab answers; a sentence where there is no finite one.

    With ties Davidson's model (1970): first, second and tie are as π₁ : π₂ : ν√(π₁π₂). Intervals: sandwich errors
    clustered by listener, times G/(G − 1), with Student's t of G − 1 for G listeners (Liang & Zeger 1986).
    """
    conditions = tuple(sorted({name for one in answers for name in (one.condition, one.other or "")}))
    place = {name: number for number, name in enumerate(conditions)}
    first = np.array([place[one.condition] for one in answers])
    second = np.array([place[one.other or ""] for one in answers])
    outcome = np.array([2 if one.choice is None else int(one.choice != one.condition) for one in answers])
    ties = int(np.sum(outcome == 2))
    if missing := _no_estimate(first, second, outcome, conditions):
        return missing
    basis = contrasts(len(conditions))
    features = _features(basis, first, second, with_ties=ties > 0)
    found = _fit(features, outcome)
    if found is None:
        return "no finite strengths: with ties on one side alone, ever larger ones explain the answers ever better"
    gradients, information = _derivatives(features, outcome, found)
    inverse = np.linalg.inv(information)
    strengths = basis @ found[: len(conditions) - 1]
    naive = np.sqrt(np.diag(basis @ inverse[: basis.shape[1], : basis.shape[1]] @ basis.T))

    listeners = np.unique([one.listener for one in answers], return_inverse=True)[1]
    groups = int(listeners.max()) + 1
    intervals = None
    if groups > len(found):
        sums = np.zeros((groups, len(found)))
        np.add.at(sums, listeners, gradients)
        covariance = inverse @ (sums.T @ sums) @ inverse * groups / (groups - 1)
        errors = np.sqrt(np.diag(basis @ covariance[: basis.shape[1], : basis.shape[1]] @ basis.T))
        reach = stats.t.ppf((1 + level) / 2, groups - 1) * errors
        intervals = tuple(
            Interval(float(one), float(one - by), float(one + by)) for one, by in zip(strengths, reach, strict=True)
        )
    return PairsModel(
        conditions=conditions,
        comparisons=len(answers),
        ties=ties,
        log_strengths=tuple(strengths.tolist()),
        deviations=tuple(naive.tolist()),
        intervals=intervals,
        tie=float(found[-1]) if ties else None,
    )


def _no_estimate(first: np.ndarray, second: np.ndarray, outcome: np.ndarray, conditions: Sequence[str]) -> str:
    """Why there is no finite maximum: Ford's condition (1957), a tie counting for both sides; "" where nothing speaks
    against one."""
    if np.all(outcome == 2):
        return "every answer is a tie"
    beats = np.zeros((len(conditions), len(conditions)))
    np.add.at(beats, (first, second), outcome != 1)
    np.add.at(beats, (second, first), outcome != 0)
    parts, part = connected_components(beats, directed=True, connection="strong")
    if parts == 1:
        return ""
    alone = [name for name, number in zip(conditions, part, strict=True) if number == part[0]]
    return (
        f"no finite strengths: between {', '.join(alone)} and the other conditions every answer went the same way, "
        "or there was none"
    )


def _features(basis: np.ndarray, first: np.ndarray, second: np.ndarray, *, with_ties: bool) -> np.ndarray:
    """[answers outcomes parameters]: the log weight of each outcome is linear in the parameters."""
    wins = [basis[first], basis[second]]
    if not with_ties:
        return np.stack(wins, axis=1)
    wins.append((basis[first] + basis[second]) / 2)
    tie = np.broadcast_to(np.array([0.0, 0.0, 1.0])[:, None], (len(first), 3, 1))
    return np.concatenate([np.stack(wins, axis=1), tie], axis=2)


def _fit(features: np.ndarray, outcome: np.ndarray) -> np.ndarray | None:
    """Newton's method with halved steps on a concave likelihood; None where it rises without end."""
    found = np.zeros(features.shape[2])
    height = _log_likelihood(features, outcome, found)
    for _ in range(STEPS):
        gradients, information = _derivatives(features, outcome, found)
        step = np.linalg.solve(information, gradients.sum(0))
        while (risen := _log_likelihood(features, outcome, found + step)) < height - 1e-12 * abs(height):
            step = step / 2
        found, height = found + step, risen
        if np.abs(found).max() > HIGHEST:
            return None
        if np.abs(step).max() < TOLERANCE:
            return found
    return None


def _log_likelihood(features: np.ndarray, outcome: np.ndarray, parameters: np.ndarray) -> float:
    weights = features @ parameters
    return float((weights[np.arange(len(outcome)), outcome] - logsumexp(weights, axis=1)).sum())


def _derivatives(features: np.ndarray, outcome: np.ndarray, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of each answer's log likelihood [answers parameters], and the information [parameters parameters]."""
    weights = features @ parameters
    shares = np.exp(weights - logsumexp(weights, axis=1, keepdims=True))
    expected = np.einsum("no,nop->np", shares, features)
    information = np.einsum("no,nop,noq->pq", shares, features, features) - expected.T @ expected
    return features[np.arange(len(outcome)), outcome] - expected, information
