"""Repeated-measures analysis of variance: every listener heard everything."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats


class Effect(NamedTuple):
    """One row of the table.

    epsilon_gg, epsilon_hf: Greenhouse & Geisser's and Huynh & Feldt's estimates of the departure from sphericity;
    p: with both degrees of freedom times epsilon_hf, or epsilon_gg where there are no more listeners than degrees of
    freedom (`corrected`). mauchly: p of sphericity, None for one degree of freedom or too few listeners. eta: partial
    eta squared.
    """

    name: str
    degrees: int
    error_degrees: int
    f: float
    p_uncorrected: float
    p: float
    corrected: str
    epsilon_gg: float
    epsilon_hf: float
    mauchly: float | None
    eta: float


class Anova(NamedTuple):
    listeners: int
    effects: tuple[Effect, ...]
    normality: float  # Shapiro & Wilk's p of the residuals of listener + condition, over the means of items


def anova(values: np.ndarray) -> Anova:
    """Of complete values [listeners conditions items]: condition, item (where there are two or more), and both.

    Univariate tests on orthonormal contrasts within listeners (Maxwell & Delaney 2004, chapters 11 and 12). Raises
    ValueError for fewer than two listeners or conditions, missing values, or values without any residual spread.
    """
    listeners, conditions, items = values.shape
    if listeners < 2 or conditions < 2 or not np.isfinite(values).all():
        raise ValueError("an analysis of variance needs two listeners and two conditions, and every value")
    flat = values.reshape(listeners, conditions * items)
    of_condition, of_item = contrasts(conditions), contrasts(items)
    effects = [_effect("condition", flat @ np.kron(of_condition, _level(items)))]
    if items > 1:
        effects.append(_effect("item", flat @ np.kron(_level(conditions), of_item)))
        effects.append(_effect("condition × item", flat @ np.kron(of_condition, of_item)))
    return Anova(listeners, tuple(effects), float(stats.shapiro(residuals(values.mean(axis=2)).ravel()).pvalue))


def residuals(table: np.ndarray) -> np.ndarray:
    """What listener and condition leave over in table [listeners conditions]."""
    return np.asarray(table - table.mean(1, keepdims=True) - table.mean(0) + table.mean())


def contrasts(levels: int) -> np.ndarray:
    """Orthonormal columns that are orthogonal to the mean, [levels, levels − 1] (Helmert's)."""
    found = np.zeros((levels, levels - 1))
    for column in range(levels - 1):
        found[: column + 1, column] = 1.0
        found[column + 1, column] = -(column + 1.0)
    return found / np.linalg.norm(found, axis=0)


def _level(levels: int) -> np.ndarray:
    return np.full((levels, 1), levels**-0.5)


def _effect(name: str, values: np.ndarray) -> Effect:
    """Of the listeners' values of orthonormal contrasts, [listeners degrees]."""
    listeners, degrees = values.shape
    explained = listeners * float(np.square(values.mean(0)).sum())
    left = float(np.square(values - values.mean(0)).sum())
    if left <= 1e-12 * float(np.square(values).sum()):
        raise ValueError(f"{name}: all listeners say exactly the same")
    error_degrees = degrees * (listeners - 1)
    f = (explained / degrees) / (left / error_degrees)
    covariance = np.atleast_2d(np.cov(values, rowvar=False))
    gg = float(np.trace(covariance) ** 2 / (degrees * np.square(covariance).sum()))
    hf = gg
    enough = listeners - 1 > degrees
    if enough:
        hf = min(1.0, (listeners * degrees * gg - 2) / (degrees * (listeners - 1 - degrees * gg)))
    return Effect(
        name=name,
        degrees=degrees,
        error_degrees=error_degrees,
        f=f,
        p_uncorrected=float(stats.f.sf(f, degrees, error_degrees)),
        p=float(stats.f.sf(f, degrees * hf, error_degrees * hf)),
        corrected="Huynh–Feldt" if enough else "Greenhouse–Geisser",
        epsilon_gg=gg,
        epsilon_hf=hf,
        mauchly=_mauchly(covariance, listeners) if enough and degrees > 1 else None,
        eta=explained / (explained + left),
    )


def _mauchly(covariance: np.ndarray, listeners: int) -> float:
    """p that the contrasts have equal variances and no covariance (Mauchly 1940, with Bartlett's scale for χ²)."""
    degrees = len(covariance)
    sign, log_determinant = np.linalg.slogdet(covariance)
    if sign <= 0:
        return 0.0
    log_w = log_determinant - degrees * np.log(np.trace(covariance) / degrees)
    scale = 1 - (2 * degrees**2 + degrees + 2) / (6 * degrees * (listeners - 1))
    return float(stats.chi2.sf(-(listeners - 1) * scale * log_w, degrees * (degrees + 1) // 2 - 1))
