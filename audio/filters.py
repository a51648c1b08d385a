"""Second-order equaliser filters after the Audio EQ Cookbook of Robert Bristow-Johnson."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.signal import sosfilt

FilterKind = Literal["peak", "low_shelf", "high_shelf", "low_pass", "high_pass"]

PASS_THROUGH = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Filter:
    """One biquad in physical units.

    kind: what it does; frequency_hz: centre, corner or cut-off, above 0; q: quality factor, above 0;
    gain_db: of peaks and shelves; low-pass and high-pass have none.
    """

    kind: FilterKind
    frequency_hz: float
    q: float
    gain_db: float = 0.0

    def __post_init__(self) -> None:
        if not self.frequency_hz > 0 or not self.q > 0:
            raise ValueError(f"a filter needs a positive frequency and Q, not {self.frequency_hz} Hz and {self.q}")
        if self.kind in ("low_pass", "high_pass") and self.gain_db != 0:
            raise ValueError(f"a {self.kind} filter has no gain, not {self.gain_db} dB")

    def section(self, sample_rate: int) -> tuple[float, float, float, float, float, float]:
        """Coefficients b0 b1 b2 1 a1 a2 at `sample_rate` Hz, always stable.

        A peak, high shelf or low-pass at or above the Nyquist frequency has nothing left to act on and passes
        everything. Raises ValueError for a low shelf or high-pass there: it would be a mere gain, or silence.
        """
        if self.frequency_hz >= sample_rate / 2:
            if self.kind in ("low_shelf", "high_pass"):
                raise ValueError(f"a {self.kind} at {self.frequency_hz} Hz needs a sample rate above twice that")
            return PASS_THROUGH
        omega = 2 * np.pi * self.frequency_hz / sample_rate
        cosine, alpha = np.cos(omega), np.sin(omega) / (2 * self.q)
        amplitude = 10 ** (self.gain_db / 40)
        if self.kind == "peak":
            b = (1 + alpha * amplitude, -2 * cosine, 1 - alpha * amplitude)
            a = (1 + alpha / amplitude, -2 * cosine, 1 - alpha / amplitude)
        elif self.kind == "low_pass":
            b = ((1 - cosine) / 2, 1 - cosine, (1 - cosine) / 2)
            a = (1 + alpha, -2 * cosine, 1 - alpha)
        elif self.kind == "high_pass":
            b = ((1 + cosine) / 2, -1 - cosine, (1 + cosine) / 2)
            a = (1 + alpha, -2 * cosine, 1 - alpha)
        else:  # A high shelf is the low shelf with its frequency axis mirrored: the cosine changes its sign.
            mirror = 1 if self.kind == "low_shelf" else -1
            plus, minus, slope = amplitude + 1, (amplitude - 1) * mirror * cosine, 2 * np.sqrt(amplitude) * alpha
            b = (
                amplitude * (plus - minus + slope),
                2 * amplitude * mirror * (amplitude - 1 - plus * mirror * cosine),
                amplitude * (plus - minus - slope),
            )
            a = (plus + minus + slope, -2 * mirror * (amplitude - 1 + plus * mirror * cosine), plus + minus - slope)
        return tuple(float(value / a[0]) for value in (*b, *a))  # type: ignore[return-value]


def sections(filters: tuple[Filter, ...], sample_rate: int) -> np.ndarray:
    """Second-order sections [filters 6] as scipy takes them."""
    return np.array([each.section(sample_rate) for each in filters]).reshape(-1, 6)


def equalise(filters: tuple[Filter, ...], samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """All filters in series over [… samples]; the signal is taken as silent before its start."""
    return sosfilt(sections(filters, sample_rate), samples, axis=-1) if filters else samples
