"""Numeric controls that nobody told: drawn for each mix as the training pairs have them, given its style and its take.

One chain brightens a dull take more than a bright one, and adds less space to a take that has some. So what is kept of
the training pairs is the joint distribution of what the mixes changed *and* of what their takes were: given a take,
what is left is how far mixes of that one take lie apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, model_validator
from scipy.special import log_ndtr, ndtri_exp

from audio import on_disk
from audio.features import measure
from audio.waveform import Waveform

TAKE = "take "  # before the name of a feature: that of the raw take, and not what the mix changed in it
EXCERPT_S = 30.0
PRIOR_PAIRS = 10.0  # how many pairs the prior counts for
LEAST_STD_DB = 0.1  # a feature of the takes that varies less says nothing about another take
LEAST_CONTROL_STD_DB = 1e-3  # less is rounding


class JointNormal(BaseModel):
    """A normal distribution of several quantities, each in its own unit.

    names: controls (mix − take) and, with TAKE before them, features of the take. mean [names], covariance
    [names names], positive definite.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    names: tuple[str, ...]
    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        count, rows = len(self.names), [len(row) for row in self.covariance]
        if len(set(self.names)) < count or len(self.mean) != count or rows != [count] * count:
            raise ValueError("different names, and a mean and a row of covariances for each of them")
        covariance = np.array(self.covariance).reshape(count, count)
        if not np.array_equal(covariance, covariance.T) or not (np.linalg.eigvalsh(covariance) > 0).all():
            raise ValueError("a covariance is symmetric and positive definite")
        return self

    @classmethod
    def of(cls, names: Sequence[str], mean: np.ndarray, covariance: np.ndarray) -> JointNormal:
        rows = tuple(tuple(row) for row in covariance.tolist())
        return cls(names=tuple(names), mean=tuple(mean.tolist()), covariance=rows)


def condition(mean: np.ndarray, covariance: np.ndarray, index: int, value: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean [n] and covariance [n n] once quantity `index` is known: μ + Σᵢ (x − μᵢ)/Σᵢᵢ and Σ − Σᵢ Σᵢᵀ/Σᵢᵢ.

    For one known quantity after the other it is the conditional normal distribution (Bishop 2006, «Pattern recognition
    and machine learning», eq. 2.81 and 2.82).
    """
    column = covariance[:, index]
    given_mean = mean + column * ((value - mean[index]) / covariance[index, index])
    return given_mean, covariance - np.outer(column, column) / covariance[index, index]


def draw(
    joint: JointNormal,
    told: Mapping[str, float],
    limits: Mapping[str, tuple[float, float]],
    *,
    spread: float,
    generator: torch.Generator,
) -> dict[str, float]:
    """A value for each control in `limits` that is not among `told`.

    told: known controls and features of the take; others than those of `joint` are of no account. limits: lowest and
    highest value. spread: > 0, factor on the standard deviations of what is not told; 1 is as in the training pairs.

    Each control in turn comes from its normal distribution, cut off at its limits, given all told and those drawn
    before it. So nothing piles up at a limit, as clipped values would, and no value far out needs many trials. Far
    within the limits that is the joint normal distribution itself.
    """
    mean, covariance = np.array(joint.mean), np.array(joint.covariance)
    chances = torch.rand(len(joint.names), dtype=torch.float64, generator=generator).tolist()
    for index, name in enumerate(joint.names):
        if name in told:
            mean, covariance = condition(mean, covariance, index, told[name])
    drawn: dict[str, float] = {}
    for index, (name, chance) in enumerate(zip(joint.names, chances, strict=True)):
        if name in limits and name not in told:
            # What one value says about the others is the same for every spread.
            centre, std = mean[index], spread * np.sqrt(covariance[index, index])
            low, high = ((limit - centre) / std for limit in limits[name])
            # Rounding alone could lead out of the limits, where the value would be refused if it were told.
            drawn[name] = float(np.clip(centre + std * _cut_off(chance, low, high), *limits[name]))
            mean, covariance = condition(mean, covariance, index, drawn[name])
    return drawn


def _cut_off(chance: float, low: float, high: float) -> float:
    """The quantile of a standard normal distribution cut off at low and high, in logarithms: exact far out too."""
    if low > 0:
        return -_cut_off(1 - chance, -high, -low)
    with np.errstate(divide="ignore"):  # log 0 at the ends
        parts = np.log([1 - chance, chance]) + log_ndtr([low, high])
    return float(ndtri_exp(np.logaddexp(*parts)))


def joint_normals(
    names: Sequence[str], values: np.ndarray, weights: np.ndarray, styles: Sequence[str | None], *, everything: str
) -> dict[str, JointNormal]:
    """Of each style, and of all pairs together under the name `everything`.

    names: of the columns. values: [pairs names]; pairs with an undefined value (NaN) are left out. weights: [pairs].
    styles: of each pair.

    Few pairs say little about a covariance. That of all pairs is drawn towards its own diagonal, and mean and
    covariance of a style towards those of all pairs, as if PRIOR_PAIRS more pairs had shown just that. Pairs of
    unequal weight count as (Σw)²/Σw² equal ones (Kish 1965). Features of the takes that hardly vary are left out.

    Empty where there is nothing to draw: no control, or one that hardly varies over the pairs that are left.
    """
    whole = ~np.isnan(values).any(axis=1)
    values, weights = values[whole], weights[whole]
    of_style = np.array(styles, dtype=object)[whole]
    if not len(values):
        return {}
    mean, covariance, count = _moments(values, weights)
    least_db = np.array([LEAST_STD_DB if name.startswith(TAKE) else LEAST_CONTROL_STD_DB for name in names])
    varies = np.diag(covariance) > least_db**2
    controls = [bool(flag) for name, flag in zip(names, varies, strict=True) if not name.startswith(TAKE)]
    if not controls or not all(controls):
        return {}
    kept = [name for name, flag in zip(names, varies, strict=True) if flag]
    values, mean, covariance = values[:, varies], mean[varies], covariance[np.ix_(varies, varies)]
    covariance = _between(covariance, count, np.diag(np.diag(covariance)))
    found = {everything: JointNormal.of(kept, mean, covariance)}
    for style in sorted({style for style in styles if style is not None}):
        here = of_style == style
        if here.any():
            own_mean, own_covariance, count = _moments(values[here], weights[here])
            found[style] = JointNormal.of(
                kept, _between(own_mean, count, mean), _between(own_covariance, count, covariance)
            )
    return found


def take_features(take: Waveform) -> dict[str, float]:
    """Features of a take, with TAKE before their names. Raises ValueError as `audio.features.measure` does.

    A long take is measured in equal parts of 30 s at most, in bounded memory; the mean over parts counts each by its
    energy.
    """
    samples = take.samples
    sounds = any(bool(samples[:, part].any()) for part in on_disk.parts(samples))
    count = -(-samples.shape[1] // round(EXCERPT_S * take.sample_rate)) if sounds else 1
    measured, energies = list[tuple[dict[str, float], float]](), list[float]()
    for piece in samples.tensor_split(count, dim=1):
        part = Waveform(piece, take.sample_rate).stereo()
        energy = float(part.samples.double().square().sum())
        if energy > 0 or count == 1:
            measured.append((measure(part), energy))
        energies.append(energy)
        on_disk.let_go(samples)
    total = sum(energies) or 1.0
    return {TAKE + name: sum(found[name] * energy for found, energy in measured) / total for name in measured[0][0]}


def _moments(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, covariance, and how many pairs of equal weight they are worth."""
    mean = np.average(values, axis=0, weights=weights)
    apart = values - mean
    covariance = (apart * weights[:, None]).T @ apart / weights.sum()
    # A product of matrices need not be symmetric to the last bit.
    return mean, (covariance + covariance.T) / 2, float(weights.sum() ** 2 / np.square(weights).sum())


def _between(own: np.ndarray, count: float, prior: np.ndarray) -> np.ndarray:
    return (count * own + PRIOR_PAIRS * prior) / (count + PRIOR_PAIRS)
