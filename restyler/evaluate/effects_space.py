"""A mix as a point among mixes: one vector of signal features, each in dB, that says what effects do to a voice."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.fft import rfft
from scipy.ndimage import maximum_filter1d, uniform_filter1d
from scipy.signal.windows import hann

from audio.errors import InputError
from audio.pair_bands import powers
from audio.waveform import Waveform
from restyler.evaluate.descriptors import (
    band_levels_db,
    band_sums,
    crest_db,
    imbalance_db,
    ratio_db,
    spectrogram,
)

SHORTEST_S = 2.0
TONE_EDGES_HZ = (0, 100, 200, 300, 510, 770, 1270, 2000, 3150, 4400, 6400, 9500, 12_000, 16_000)
BAND_EDGES_HZ = (0, 300, 800, 2000, 5000, 16_000)  # of width, movement and tails
SPREAD_S = (0.02, 0.1, 0.4)
TAIL_S = (0.1, 0.3, 0.6)
MODULATION_HZ = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
ACTIVE_DB = 30.0  # under the loudest moment: what follows quieter ones is no tail
DEEPEST_DB = 60.0
LEAST_SHARE = 1e-6


def _range_names(prefix: str, edges: tuple[float, ...], unit: str) -> list[str]:
    return [f"{prefix}_{low:g}_{high:g}_{unit}" for low, high in pairwise(edges)]


EFFECT_NAMES = (
    *_range_names("tone", TONE_EDGES_HZ, "hz"),
    *_range_names("width", BAND_EDGES_HZ, "hz"),
    "imbalance",
    "crest",
    *(f"spread_{1000 * time_s:g}_ms" for time_s in SPREAD_S),
    *_range_names("movement", BAND_EDGES_HZ, "hz"),
    *(f"tail_{1000 * time_s:g}_ms" for time_s in TAIL_S),
    *_range_names("tail", BAND_EDGES_HZ, "hz"),
    *_range_names("modulation", MODULATION_HZ, "per_s"),
)


def effect_vector(waveform: Waveform) -> np.ndarray:
    """EFFECT_NAMES of a mono or stereo recording, [42] in dB; the overall gain doesn't matter.

    - tone: level of 13 bands against the whole, ≥ −60;
    - width: side against middle in 5 bands, within ±30; imbalance: right against left;
    - crest: peak against RMS; spread: standard deviation of the level of the power averaged over 20, 100 and 400 ms,
      weighted with that power; movement: that at 20 ms in 5 bands;
    - tail: how far the level lies under the loudest of the last 0.1, 0.3 and 0.6 s, −60 to 0, mean over all moments
      this near to an active one; that of 0.3 s in 5 bands;
    - modulation: variance of the amplitude's movements in each octave of their rate, 0.5 to 32 a second, against its
      mean squared (after Houtgast & Steeneken 1985): reverb flattens fast ones, compression all.

    Not among them are the four features that training may tell a model (audio.features), each one number for the whole.
    Related to these, but divided into bands or times and by other windows and weights, are tone (to brightness_db),
    width (to width_db), spread and movement (to dynamics_db) and tail (to space_db); crest, imbalance and modulation
    are not. No network is trained on any of them.

    The voice is in the vector too: between takes it differs for more than the mix. Raises InputError under 2 s,
    ValueError for silence.
    """
    if waveform.duration_s < SHORTEST_S:
        raise InputError(f"effects are measured over at least {SHORTEST_S:g} s, not {waveform.duration_s:.2f} s")
    stereo = waveform.stereo()
    rate_hz = stereo.sample_rate
    spectrum = spectrogram(stereo)
    power = powers(spectrum)
    frame_rate_hz = rate_hz / (2 * (power.shape[-1] - 1) // 4)
    bands = band_sums(power, rate_hz, BAND_EDGES_HZ).sum(0).T  # [bands frames]
    whole = bands.sum(0)
    return np.concatenate(
        [
            band_levels_db(power.sum((0, 1)), rate_hz, TONE_EDGES_HZ),
            _widths_db(spectrum, rate_hz),
            [imbalance_db(stereo), crest_db(stereo)],
            [_spread_db(whole, round(time_s * frame_rate_hz)) for time_s in SPREAD_S],
            [_spread_db(band, round(SPREAD_S[0] * frame_rate_hz)) for band in bands],
            [_tail_db(whole, round(time_s * frame_rate_hz)) for time_s in TAIL_S],
            [_tail_db(band, round(TAIL_S[1] * frame_rate_hz)) for band in bands],
            _modulation_db(whole, frame_rate_hz),
        ]
    )


def _widths_db(spectrum: np.ndarray, rate_hz: int) -> list[float]:
    """Side against middle in each of the bands of a complex spectrogram [2 frames bins]."""
    left, right = spectrum
    side, middle = (band_sums(powers(one).sum(0), rate_hz, BAND_EDGES_HZ) for one in (left - right, left + right))
    return [ratio_db(*pair) for pair in zip(side.tolist(), middle.tolist(), strict=True)]


def _spread_db(power: np.ndarray, frames: int) -> float:
    """Standard deviation in dB of the power averaged over so many frames, weighted with that power."""
    averaged = uniform_filter1d(power, frames, mode="constant")
    averaged = averaged[averaged > 0]
    if not len(averaged):
        return 0.0
    level_db = 10 * np.log10(averaged)
    return float(np.sqrt(np.average((level_db - np.average(level_db, weights=averaged)) ** 2, weights=averaged)))


def _tail_db(power: np.ndarray, frames: int) -> float:
    """How far the power lies under the highest of the so many frames up to it: mean over what follows active frames."""
    recent = maximum_filter1d(power, 2 * (frames // 2) + 1, origin=frames // 2, mode="constant")
    near = recent > recent.max() * 10 ** (-ACTIVE_DB / 10)
    if not near.any():
        return 0.0
    return float(np.mean(10 * np.log10(np.maximum(power[near] / recent[near], 10 ** (-DEEPEST_DB / 10)))))


def _modulation_db(power: np.ndarray, frame_rate_hz: float) -> np.ndarray:
    """Variance of the amplitude's movements in each octave of their rate, against its mean squared."""
    amplitude = np.sqrt(power)
    fade = hann(len(amplitude), sym=False)
    moved = (amplitude / amplitude.mean() - 1) * fade
    spectrum = 2 * np.abs(rfft(moved)) ** 2 / (len(moved) * np.sum(fade**2))
    octaves = np.digitize(np.arange(len(spectrum)) * frame_rate_hz / len(moved), MODULATION_HZ) - 1
    variance = [spectrum[octaves == octave].sum() for octave in range(len(MODULATION_HZ) - 1)]
    return np.asarray(10 * np.log10(np.maximum(variance, LEAST_SHARE)))
