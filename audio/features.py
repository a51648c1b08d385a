"""Tone, width, dynamics and space of a recording as four numbers in dB.

They are what numeric controls ask for and what reports print. None of them changes with the overall gain, and none
needs a reference; each compares one part of the signal's energy with another. They describe the whole signal, so a
voice's own brightness or its own pauses are in them: between a take and its mix the difference is what was done.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import maximum_filter1d
from scipy.signal import welch

from audio.waveform import Waveform

MIN_SAMPLE_RATE_HZ = 32_000
BODY_BAND_HZ = (200.0, 2_000.0)
BRIGHT_BAND_HZ = (4_000.0, 16_000.0)
SPECTRUM_S = 0.2
LEAST_SHARE = 1e-6  # of the energy: what is less counts as this, which keeps every ratio within ±60 dB

LEVEL_WINDOW_S = 0.05
DECAY_WINDOW_S = 0.02
DECAY_MEMORY_S = 0.5
DEEPEST_DECAY_DB = 60.0


def brightness_db(waveform: Waveform) -> float:
    """Energy of 4 to 16 kHz against that of 200 Hz to 2 kHz, in dB, within ±60.

    Mean power spectrum (Welch), added over the channels. Raises ValueError below a sample rate of 32 kHz.
    """
    if waveform.sample_rate < MIN_SAMPLE_RATE_HZ:
        raise ValueError(f"brightness needs at least {MIN_SAMPLE_RATE_HZ} Hz, not {waveform.sample_rate} Hz")
    samples = _samples(waveform)
    length = min(round(SPECTRUM_S * waveform.sample_rate), samples.shape[1])
    # Windows fade at their ends and an incomplete last one is left out: with silence around, all of the sound counts.
    samples = np.pad(samples, ((0, 0), (length // 2, length)))
    frequencies_hz, power = welch(samples, waveform.sample_rate, nperseg=length, detrend=False, axis=1)
    power = power.sum(axis=0)

    def energy(band_hz: tuple[float, float]) -> float:
        return float(power[(frequencies_hz >= band_hz[0]) & (frequencies_hz < band_hz[1])].sum())

    return _ratio_db(energy(BRIGHT_BAND_HZ), energy(BODY_BAND_HZ), whole=float(power.sum()))


def width_db(waveform: Waveform) -> float:
    """Energy of the side (L − R) against that of the middle (L + R), in dB, within ±60: −60 for mono, 0 for
    independent channels or one silent channel, +60 for anti-phase."""
    left, right = _samples(waveform)
    middle, side = float(np.sum((left + right) ** 2)), float(np.sum((left - right) ** 2))
    return _ratio_db(side, middle, whole=side + middle)


def dynamics_db(waveform: Waveform) -> float:
    """Spread of the level: standard deviation of 50 ms RMS levels in dB, each weighted with its power.

    The weights leave pauses, noise floors and reverb tails out without a threshold, so what moves this number is
    compression and expansion of the voice itself. 0 for a steady tone, with or without pauses.
    """
    power = _frame_power(waveform, LEVEL_WINDOW_S)
    power = power[power > 0]
    level_db = 10 * np.log10(power)
    mean_db = np.average(level_db, weights=power)
    return float(np.sqrt(np.average((level_db - mean_db) ** 2, weights=power)))


def space_db(waveform: Waveform) -> float:
    """How little the level falls after a sound: reverb and echoes fill what would be gaps. In dB, −60 to 0.

    The level of every 20 ms frame against the loudest of the 0.5 s up to it, no lower than −60 dB; space is the mean,
    weighted with the amplitude of that loudest frame. So silence counts only near sounds, and the near gaps of loud
    sounds count most. Compression raises space as well, since it lifts what is quiet.
    """
    power = _frame_power(waveform, DECAY_WINDOW_S)
    memory = round(DECAY_MEMORY_S / (DECAY_WINDOW_S / 2))
    # A window of memory + 1 frames that ends at the present one.
    recent = maximum_filter1d(power, memory + 1, origin=memory // 2, mode="constant")
    near = recent > 0
    left = np.maximum(power[near] / recent[near], 10 ** (-DEEPEST_DECAY_DB / 10))
    return float(np.average(10 * np.log10(left), weights=np.sqrt(recent[near])))


FEATURES = ("brightness_db", "width_db", "dynamics_db", "space_db")


def measure(waveform: Waveform) -> dict[str, float]:
    """All features of a mono or stereo waveform by name, in the order of FEATURES.

    Raises ValueError for silence and for less than 50 ms, which have none, and below a sample rate of 32 kHz.
    """
    return {
        "brightness_db": brightness_db(waveform),
        "width_db": width_db(waveform),
        "dynamics_db": dynamics_db(waveform),
        "space_db": space_db(waveform),
    }


def _samples(waveform: Waveform) -> np.ndarray:
    """The stereo form as float64 [2 samples]; ValueError for silence."""
    samples = waveform.stereo().samples.numpy(force=True).astype(np.float64)
    if not samples.any():
        raise ValueError("silence has no features")
    return samples


def _frame_power(waveform: Waveform, window_s: float) -> np.ndarray:
    """Mean power over both channels in windows that overlap by half, [frames]; the last half window may be shorter."""
    power = np.mean(_samples(waveform) ** 2, axis=0)
    half = round(window_s * waveform.sample_rate / 2)
    if len(power) < 2 * half:
        raise ValueError(f"features need at least {window_s} s, not {waveform.duration_s:.3f} s")
    starts = np.arange(0, len(power), half)
    blocks = np.add.reduceat(power, starts) / np.diff(starts, append=len(power))
    return (blocks[1:] + blocks[:-1]) / 2


def _ratio_db(part: float, other: float, *, whole: float) -> float:
    least = LEAST_SHARE * whole
    return 10 * math.log10((part + least) / (other + least))
