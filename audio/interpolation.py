"""Values between samples."""

from __future__ import annotations

import numpy as np

KAISER_BETA = 8.0
OVERSAMPLING = 8
INTERPOLATOR_HALF_WIDTH = 48  # input samples on either side
SEGMENT_SAMPLES = 64  # interpolated together


def fractional_delay(delay: float, half_width: int) -> np.ndarray:
    """Kaiser-windowed sinc [2 · half_width + 1] that delays a signal by a part of a sample, −1 … 1."""
    offsets = np.arange(-half_width, half_width + 1) - delay
    inside = np.clip(1 - (offsets / (half_width + 1)) ** 2, 0, None)
    return np.sinc(offsets) * np.i0(KAISER_BETA * np.sqrt(inside)) / np.i0(KAISER_BETA)


def phases() -> list[np.ndarray]:
    """One fractional delay for each of OVERSAMPLING positions from a sample to the next, [2 · half width + 1]."""
    return [fractional_delay(phase / OVERSAMPLING, INTERPOLATOR_HALF_WIDTH) for phase in range(OVERSAMPLING)]


def oversampler() -> np.ndarray:
    """[SEGMENT_SAMPLES + 2 · half width, positions]: from a segment and what lies around it to its values at and
    between its samples."""
    half = INTERPOLATOR_HALF_WIDTH
    matrix = np.zeros((SEGMENT_SAMPLES + 2 * half, SEGMENT_SAMPLES, OVERSAMPLING))
    for phase, kernel in enumerate(phases()):
        for position in range(SEGMENT_SAMPLES):
            matrix[position : position + 2 * half + 1, position, phase] = kernel[::-1]
    return matrix.reshape(len(matrix), -1)
