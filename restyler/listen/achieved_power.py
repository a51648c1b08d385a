"""What a test with these listeners could have shown: the smallest effect that it finds in four cases of five."""

from __future__ import annotations

from collections.abc import Callable

from scipy import optimize

from restyler.listen.power import WANTED, binomial_power, wilcoxon_power

LARGEST_D = 20.0


def smallest_d(listeners: int, alpha: float) -> float | None:
    """The mean of paired differences over their standard deviation that Wilcoxon's two-sided test finds with 80 %.

    None where so few listeners find nothing with this alpha, however large.
    """
    return _smallest(lambda effect: wilcoxon_power(listeners, effect, alpha), 0.0, LARGEST_D)


def smallest_share(trials: int, alpha: float) -> float | None:
    """The share of right answers that the exact one-sided binomial test finds with 80 %; None likewise."""
    return _smallest(lambda share: binomial_power(trials, share, alpha), 0.5, 1.0)


def _smallest(power: Callable[[float], float], low: float, high: float) -> float | None:
    if power(high) < WANTED:
        return None
    return float(optimize.brentq(lambda effect: power(effect) - WANTED, low, high, xtol=1e-6))
