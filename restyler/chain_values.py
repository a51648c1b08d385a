"""What a parameter of a chain may be in YAML: a value, or a distribution that values are drawn from.

Every distribution is its quantile function: a share 0 ≤ u < 1 → a value. One that can leave the range of its parameter
is refused when it is read, so nothing is ever clamped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from scipy.special import ndtr, ndtri

from audio.parts_kinds import Number, Parameter, Value, unknown

CUT_DEVIATIONS = 3.0  # where a normal distribution without `within` ends


class Distribution(Protocol):
    """extremes: every value in question, or the least and the greatest."""

    @property
    def extremes(self) -> Sequence[Value]: ...

    def at(self, share: float) -> Value: ...


@dataclass(frozen=True)
class Among:
    """Each of the values equally likely; one alone is a fixed value."""

    values: tuple[Value, ...]

    @property
    def extremes(self) -> Sequence[Value]:
        return self.values

    def at(self, share: float) -> Value:
        return self.values[int(share * len(self.values))]


@dataclass(frozen=True)
class Uniform:
    """Evenly from low to high; in ratios where `logarithmic`."""

    low: float
    high: float
    logarithmic: bool = False

    @property
    def extremes(self) -> Sequence[Value]:
        return self.low, self.high

    def at(self, share: float) -> Value:
        if self.logarithmic:
            found = self.low * (self.high / self.low) ** share
        else:
            found = self.low + share * (self.high - self.low)
        return min(max(found, self.low), self.high)  # against rounding alone


@dataclass(frozen=True)
class Normal:
    """Normal, of what lies from low to high."""

    mean: float
    deviation: float
    low: float
    high: float

    @property
    def extremes(self) -> Sequence[Value]:
        return self.low, self.high

    def at(self, share: float) -> Value:
        first, last = (float(ndtr((edge - self.mean) / self.deviation)) for edge in (self.low, self.high))
        found = self.mean + self.deviation * float(ndtri(first + share * (last - first)))
        return min(max(found, self.low), self.high)  # against rounding alone


def read_value(node: Any, parameter: Parameter) -> Distribution:
    """A YAML node that speaks of no file → the distribution; every value of it checked against the parameter.

    Raises ValueError for what is none of the forms, or can give a value that the parameter doesn't allow.
    """
    if not isinstance(node, dict):
        return checked(Among((node,)), parameter)
    forms: dict[str, Callable[[Any, Any], Distribution]] = {
        "uniform": lambda edges, _: Uniform(*_two(edges, "uniform", ascending=True)),
        "log_uniform": lambda edges, _: _log_uniform(edges),
        "normal": _normal,
        "choice": lambda values, _: _among(values),
    }
    kinds = [name for name in node if name != "within"]
    if len(kinds) != 1 or kinds[0] not in forms:
        named = unknown(kinds[0], forms) if len(kinds) == 1 else f"{len(kinds)} names (allowed: {', '.join(forms)})"
        raise ValueError(f"{parameter.name} is a value or one distribution, not {named}")
    if "within" in node and kinds[0] != "normal":
        raise ValueError(f"{parameter.name}: «within» belongs to normal, not to {kinds[0]}")
    try:
        found = forms[kinds[0]](node[kinds[0]], node.get("within"))
    except ValueError as error:
        raise ValueError(f"{parameter.name}: {error}") from None
    if not isinstance(parameter, Number) and not isinstance(found, Among):
        raise ValueError(f"{parameter.name} is {parameter.allowed()}; only choice can draw it, not {kinds[0]}")
    return checked(found, parameter)


def checked(distribution: Distribution, parameter: Parameter) -> Distribution:
    """The distribution with its values as the parameter has them. Raises ValueError where it can leave the range."""
    values = tuple(parameter.check(value) for value in distribution.extremes)
    return Among(values) if isinstance(distribution, Among) else distribution


def _two(node: Any, form: str, *, ascending: bool) -> tuple[float, float]:
    if not isinstance(node, list) or len(node) != 2 or not all(_finite(value) for value in node):
        raise ValueError(f"{form} takes a list of two numbers, not {node!r}")
    if ascending and not node[0] < node[1]:
        raise ValueError(f"{form} takes the lower number first, not {node!r}")
    return float(node[0]), float(node[1])


def _finite(value: Any) -> bool:
    """Whether a value is a number that a float can hold."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _log_uniform(node: Any) -> Uniform:
    low, high = _two(node, "log_uniform", ascending=True)
    if low <= 0:
        raise ValueError(f"log_uniform takes numbers above 0, not {node!r}")
    return Uniform(low, high, logarithmic=True)


def _normal(node: Any, within: Any) -> Normal:
    mean, deviation = _two(node, "normal", ascending=False)
    if deviation <= 0:
        raise ValueError(f"normal takes the mean and a deviation above 0, not {node!r}")
    if within is None:
        return Normal(mean, deviation, mean - CUT_DEVIATIONS * deviation, mean + CUT_DEVIATIONS * deviation)
    low, high = _two(within, "within", ascending=True)
    if low > mean + CUT_DEVIATIONS * deviation or high < mean - CUT_DEVIATIONS * deviation:
        raise ValueError(f"within {within!r} lies more than {CUT_DEVIATIONS:g} deviations from the mean {mean:g}")
    return Normal(mean, deviation, low, high)


def _among(node: Any) -> Among:
    if not isinstance(node, list) or not node:
        raise ValueError(f"choice takes a list of values, not {node!r}")
    return Among(tuple(node))
