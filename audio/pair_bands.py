"""Short-time spectra and band powers of 16 kHz takes: what the measures of a pair stand on."""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.fft
from scipy.signal.windows import hann

RATE_HZ = 16_000
BANDS = 24
LOWEST_HZ = 50.0
HIGHEST_HZ = 7600.0


def spectra(samples: np.ndarray, window_samples: int) -> np.ndarray:
    """[samples] → complex [frames bins]: Hann windows that overlap by half, no padding at the ends."""
    if len(samples) < window_samples:
        return np.zeros((0, window_samples // 2 + 1), np.complex64)
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float32), window_samples)
    window = hann(window_samples, sym=False).astype(np.float32)
    return np.asarray(scipy.fft.rfft(frames[:: window_samples // 2] * window, axis=1))


def powers(spectrum: np.ndarray) -> np.ndarray:
    """Squared magnitudes of [frames bins]."""
    return np.asarray(spectrum.real**2 + spectrum.imag**2)


def band_powers(spectrum: np.ndarray) -> np.ndarray:
    """Complex [frames bins] → power in 24 bands, [frames bands]; the bands are equally wide on the ERB scale."""
    return powers(spectrum) @ _bins_to_bands(spectrum.shape[1])


def erb_number(frequency_hz: np.ndarray | float) -> np.ndarray:
    """Position on the scale of the ear's bandwidths (Glasberg & Moore 1990, equation 4)."""
    return np.asarray(21.4 * np.log10(1 + 0.00437 * np.asarray(frequency_hz)))


def decibels(power: np.ndarray) -> np.ndarray:
    """10 lg of powers, finite for silence: nothing falls further than 120 dB under the largest one."""
    return np.asarray(10 * np.log10(power + 1e-12 * max(float(power.max(initial=0)), 1e-30)))


@cache
def _bins_to_bands(bins: int) -> np.ndarray:
    """[bins bands]: the share of each bin that lies in a band, so that narrow low bands split one bin."""
    bin_hz = RATE_HZ / 2 / (bins - 1)
    positions = np.linspace(erb_number(LOWEST_HZ), erb_number(HIGHEST_HZ), BANDS + 1)
    edges_hz = (10 ** (positions / 21.4) - 1) / 0.00437
    centres_hz = np.arange(bins)[:, None] * bin_hz
    upper = np.minimum(centres_hz + bin_hz / 2, edges_hz[1:])
    lower = np.maximum(centres_hz - bin_hz / 2, edges_hz[:-1])
    return (np.clip(upper - lower, 0, None) / bin_hz).astype(np.float32)
