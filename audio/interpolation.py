"""Values between samples."""

from __future__ import annotations

import numpy as np

KAISER_BETA = 8.0


def fractional_delay(delay: float, half_width: int) -> np.ndarray:
    """Kaiser-windowed sinc [2 · half_width + 1] that delays a signal by a part of a sample, −1 … 1."""
    offsets = np.arange(-half_width, half_width + 1) - delay
    inside = np.clip(1 - (offsets / (half_width + 1)) ** 2, 0, None)
    return np.sinc(offsets) * np.i0(KAISER_BETA * np.sqrt(inside)) / np.i0(KAISER_BETA)
