"""Tone, width, dynamics and space of a recording as four numbers in dB.

They are what numeric controls ask for and what reports print. None of them changes with the overall gain, and none
needs a reference; each compares one part of the signal's energy with another. They describe the whole signal, so a
voice's own brightness or its own pauses are in them: between a take and its mix the difference is what was done.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.fft import rfft
from scipy.ndimage import maximum_filter1d
from scipy.signal import get_window

from audio.waveform import Waveform

MIN_SAMPLE_RATE_HZ = 32_000
BODY_BAND_HZ = (200.0, 2_000.0)
BRIGHT_BAND_HZ = (4_000.0, 16_000.0)
SPECTRUM_S = 0.2
WINDOWS_AT_ONCE = 16  # transformed together: what fits a processor's cache
LEAST_SHARE = 1e-6  # of the energy: what is less counts as this, which keeps every ratio within ±60 dB

LEVEL_WINDOW_S = 0.05
DECAY_WINDOW_S = 0.02
DECAY_MEMORY_S = 0.5
DEEPEST_DECAY_DB = 60.0


def brightness_db(waveform: Waveform) -> float:
    """Energy of 4 to 16 kHz against that of 200 Hz to 2 kHz, in dB, within ±60.

    Mean power spectrum (Welch), added over the channels. Raises ValueError below a sample rate of 32 kHz.
    """
    _check_rate(waveform)
    return _brightness_db(_samples(waveform), waveform.sample_rate)


def width_db(waveform: Waveform) -> float:
    """Energy of the side (L − R) against that of the middle (L + R), in dB, within ±60: −60 for mono, 0 for
    independent channels or one silent channel, +60 for anti-phase."""
    samples = _samples(waveform)
    return _width_db(samples, _power(samples))


def dynamics_db(waveform: Waveform) -> float:
    """Spread of the level: standard deviation of 50 ms RMS levels in dB, each weighted with its power.

    The weights leave pauses, noise floors and reverb tails out without a threshold, so what moves this number is
    compression and expansion of the voice itself. 0 for a steady tone, with or without pauses.
    """
    return _dynamics_db(_power(_samples(waveform)), waveform.sample_rate)


def space_db(waveform: Waveform) -> float:
    """How little the level falls after a sound: reverb and echoes fill what would be gaps. In dB, −60 to 0.

    The level of every 20 ms frame against the loudest of the 0.5 s up to it, no lower than −60 dB; space is the mean,
    weighted with the amplitude of that loudest frame. So silence counts only near sounds, and the near gaps of loud
    sounds count most. Compression raises space as well, since it lifts what is quiet.
    """
    return _space_db(_power(_samples(waveform)), waveform.sample_rate)


FEATURES = ("brightness_db", "width_db", "dynamics_db", "space_db")


def measure(waveform: Waveform) -> dict[str, float]:
    """All features of a mono or stereo waveform by name, in the order of FEATURES.

    Raises ValueError for silence and for less than 50 ms, which have none, and below a sample rate of 32 kHz.
    """
    _check_rate(waveform)
    samples, rate_hz = _samples(waveform), waveform.sample_rate
    power = _power(samples)
    return {
        "brightness_db": _brightness_db(samples, rate_hz),
        "width_db": _width_db(samples, power),
        "dynamics_db": _dynamics_db(power, rate_hz),
        "space_db": _space_db(power, rate_hz),
    }


def _check_rate(waveform: Waveform) -> None:
    if waveform.sample_rate < MIN_SAMPLE_RATE_HZ:
        raise ValueError(f"brightness needs at least {MIN_SAMPLE_RATE_HZ} Hz, not {waveform.sample_rate} Hz")


def _samples(waveform: Waveform) -> np.ndarray:
    """The stereo form as float64 [2 samples]; ValueError for silence."""
    samples = waveform.stereo().samples.numpy(force=True).astype(np.float64)
    if not samples.any():
        raise ValueError("silence has no features")
    return samples


def _power(samples: np.ndarray) -> np.ndarray:
    """Mean power over both channels, [samples]."""
    left, right = samples
    return (left * left + right * right) / 2


def _brightness_db(samples: np.ndarray, rate_hz: int) -> float:
    frequencies_hz, power = _mean_spectrum(samples, rate_hz)

    def energy(band_hz: tuple[float, float]) -> float:
        return float(power[(frequencies_hz >= band_hz[0]) & (frequencies_hz < band_hz[1])].sum())

    return _ratio_db(energy(BRIGHT_BAND_HZ), energy(BODY_BAND_HZ), whole=float(power.sum()))


def _mean_spectrum(samples: np.ndarray, rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Welch's power spectrum, added over the channels, in some unit: frequencies in Hz and power, each [bins].

    As scipy.signal.welch gives it, at a fraction of the time: transformed in single precision, which is far finer than
    what a voice's power spectrum can mean, and summed in double precision.
    """
    length = min(round(SPECTRUM_S * rate_hz), samples.shape[1])
    channels = samples[:1] if np.array_equal(*samples) else samples
    # Windows fade at their ends and an incomplete last one is left out: with silence around, all of the sound counts.
    padded = np.pad((channels / np.abs(samples).max()).astype(np.float32), ((0, 0), (length // 2, length)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, length, axis=1)[:, :: length - length // 2]
    fade = get_window("hann", length).astype(np.float32)
    power = np.zeros(length // 2 + 1)
    for channel in windows:
        for start in range(0, len(channel), WINDOWS_AT_ONCE):
            spectrum = rfft(channel[start : start + WINDOWS_AT_ONCE] * fade, axis=1)
            power += (spectrum.real**2 + spectrum.imag**2).sum(axis=0)
    power[1 : (length + 1) // 2] *= 2  # both halves of the spectrum hold the power of all but 0 Hz and Nyquist's
    return np.arange(len(power)) * (rate_hz / length), power


def _width_db(samples: np.ndarray, power: np.ndarray) -> float:
    # (L ± R)² = L² + R² ± 2 L R. Summed by einsum: unlike BLAS it adds in the same order on any number of threads.
    whole, common = 2 * float(power.sum()), 2 * float(np.einsum("s,s->", *samples))
    return _ratio_db(whole - common, whole + common, whole=2 * whole)


def _dynamics_db(power: np.ndarray, rate_hz: int) -> float:
    frames = _frame_power(power, rate_hz, LEVEL_WINDOW_S)
    frames = frames[frames > 0]
    level_db = 10 * np.log10(frames)
    mean_db = np.average(level_db, weights=frames)
    return float(np.sqrt(np.average((level_db - mean_db) ** 2, weights=frames)))


def _space_db(power: np.ndarray, rate_hz: int) -> float:
    frames = _frame_power(power, rate_hz, DECAY_WINDOW_S)
    memory = round(DECAY_MEMORY_S / (DECAY_WINDOW_S / 2))
    # A window of memory + 1 frames that ends at the present one.
    recent = maximum_filter1d(frames, memory + 1, origin=memory // 2, mode="constant")
    near = recent > 0
    left = np.maximum(frames[near] / recent[near], 10 ** (-DEEPEST_DECAY_DB / 10))
    return float(np.average(10 * np.log10(left), weights=np.sqrt(recent[near])))


def _frame_power(power: np.ndarray, rate_hz: int, window_s: float) -> np.ndarray:
    """Mean power in windows that overlap by half, [frames]; the last half window may be shorter."""
    half = round(window_s * rate_hz / 2)
    if len(power) < 2 * half:
        raise ValueError(f"features need at least {window_s} s, not {len(power) / rate_hz:.3f} s")
    starts = np.arange(0, len(power), half)
    blocks = np.add.reduceat(power, starts) / np.diff(starts, append=len(power))
    return (blocks[1:] + blocks[:-1]) / 2


def _ratio_db(part: float, other: float, *, whole: float) -> float:
    least = LEAST_SHARE * whole
    return 10 * math.log10((part + least) / (other + least))
