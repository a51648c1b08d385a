"""Mean and variance of many parts from those of each part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Of weighted frames, per channel: `weight` of all together, `mean` [channels], and `squares` [channels], the
    weighted sum of squared deviations from that mean; all in float64.

    Sums of squares about the mean, not about zero: nothing is lost where the mean is far from zero.
    """

    weight: float
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, frames: np.ndarray, *, weight: float) -> Moments:
        """[frames channels], each frame of that weight."""
        values = frames.astype(np.float64)
        mean = values.mean(axis=0)
        return cls(weight * len(values), mean, weight * np.square(values - mean).sum(axis=0))

    @property
    def std(self) -> np.ndarray:
        return np.sqrt(self.squares / self.weight)

    def scaled(self, weight: float) -> Moments:
        """The same mean and deviation with another weight."""
        return Moments(weight, self.mean, self.squares * (weight / self.weight))

    def __add__(self, other: Moments) -> Moments:
        """Of both together (Chan, Golub & LeVeque 1983, «Algorithms for computing the sample variance», eq. 2.1)."""
        weight = self.weight + other.weight
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.weight / weight)
        squares = self.squares + other.squares + np.square(apart) * (self.weight * other.weight / weight)
        return Moments(weight, mean, squares)

    def to_json(self) -> dict[str, Any]:
        """Exact: JSON numbers of Python give back the same float64."""
        return {"weight": self.weight, "mean": self.mean.tolist(), "squares": self.squares.tolist()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Moments:
        return cls(fields["weight"], np.array(fields["mean"]), np.array(fields["squares"]))


def together(parts: Iterable[Moments]) -> Moments:
    """Of all parts, of which there is at least one."""
    first, *others = parts
    total = first
    for part in others:
        total = total + part
    return total
