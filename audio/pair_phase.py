"""How far one fixed filter turns the phases of the raw take into those of its mix."""

from __future__ import annotations

import numpy as np

from audio.pair_bands import RATE_HZ, erb_number

LOWEST_HZ = 80.0
HIGHEST_HZ = 7000.0
FILTER_REACH_S = 0.002  # of the short filter, to either side
BAND_EXPONENT = 0.3  # a band counts by its energy to this power: loudness, not the loudest partial alone


def phase_measures(raw: np.ndarray, mix: np.ndarray) -> tuple[float, float] | None:
    """Complex spectra [frames bins] of an aligned pair → agreement and coherence, both 0 … 1; None for silence.

    Coherence: in a bin, the length of the mean phase step from raw to mix, weighed by both magnitudes: 1 where the
    phases differ by a constant, whatever the magnitudes do. Agreement: the same, but after one filter of ±2 ms with
    the magnitude 1 has turned the phases, and along its direction: equalisers and gains leave it near 1, while long
    all-passes, other voices in the mix and tails that outweigh the voice take it down. The filter is the phase-only
    transform of the pair (Knapp & Carter 1976, table I), cut to its reach.
    """
    cross = raw.conj() * mix
    strength = np.abs(cross).sum(axis=0, dtype=np.float64)
    frequency_hz = np.linspace(0, RATE_HZ / 2, len(strength))
    strength[(frequency_hz < LOWEST_HZ) | (frequency_hz > HIGHEST_HZ)] = 0
    if strength.sum() <= 0:
        return None
    # Some bins have no strength; their step is 0 and their weight too.
    step = cross.sum(axis=0, dtype=np.complex128) * (strength > 0) / np.where(strength > 0, strength, 1)
    band = erb_number(frequency_hz).astype(int)
    energy = np.bincount(band, strength)
    weight = strength * np.where(energy > 0, energy, 1)[band] ** (BAND_EXPONENT - 1)
    weight /= weight.sum()
    response = np.fft.irfft(step)
    reach = round(FILTER_REACH_S * RATE_HZ)
    response[reach + 1 : len(response) - reach] = 0
    turn = np.fft.rfft(response)
    turn /= np.maximum(np.abs(turn), np.finfo(float).tiny)
    agreement = float((weight * (step * turn.conj()).real).sum())
    return max(agreement, 0.0), float((weight * np.abs(step)).sum())
