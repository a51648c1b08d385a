"""What a finished vocal sounds like, each in one number or one per band: loudness range, crest, tone, width, balance.

Everything is measured on the stereo form. None but `mel_levels_db` changes with the overall gain.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import pyloudnorm
import scipy.fft
from scipy.signal import get_window
from torchaudio.functional import melscale_fbanks

from audio.meters import K_WEIGHTING
from audio.pair_bands import powers
from audio.waveform import Waveform

WINDOW_SAMPLES = 2048
SHORT_TERM_S, SHORT_TERM_STEP_S = 3.0, 0.1
ABSOLUTE_GATE_LUFS, RELATIVE_GATE_LU = -70.0, -20.0
LOW_PERCENTILE, HIGH_PERCENTILE = 10, 95

# Critical bands (Zwicker 1961, table I); the last edge is the end of the 24th.
BARK_EDGES_HZ = (0, 100, 200, 300, 400, 510, 630, 770, 920, 1080, 1270, 1480, 1720, 2000, 2320, 2700, 3150, 3700, 4400,
                 5300, 6400, 7700, 9500, 12_000, 15_500)  # fmt: skip
LEAST_BAND_DB = -60.0
LEAST_CHANNEL_SHARE = 1e-3  # of the energy: what is less can't be heard beside the rest, and must not decide a ratio
MEL_BANDS, MEL_LOWEST_HZ, MEL_HIGHEST_HZ = 80, 20.0, 20_000.0
LEAST_MEL_DB = -80.0


def loudness_range_lu(waveform: Waveform) -> float:
    """Loudness range in LU (EBU Tech 3342): short-term loudness (3 s, every 0.1 s) over −70 LUFS and over 20 LU under
    the mean power of these; its 95th percentile minus its 10th.

    nan for a waveform under 3 s, which has no short-term loudness, and where all lies under −70 LUFS. Only whole
    windows count: the silence that pyloudnorm's own range appends is for streams, and gives a steady tone a range.
    """
    if waveform.duration_s < SHORT_TERM_S:
        return math.nan
    meter = pyloudnorm.Meter(waveform.sample_rate, K_WEIGHTING, SHORT_TERM_S, 1 - SHORT_TERM_STEP_S / SHORT_TERM_S)
    meter.integrated_loudness(_samples(waveform).T)
    whole = int((waveform.duration_s - SHORT_TERM_S) / SHORT_TERM_STEP_S + 1e-6) + 1
    levels = np.array(meter.blockwise_loudness[:whole])
    levels = levels[levels >= ABSOLUTE_GATE_LUFS]
    if not len(levels):
        return math.nan
    levels = levels[levels >= 10 * np.log10(np.mean(10 ** (levels / 10))) + RELATIVE_GATE_LU]
    low, high = np.percentile(levels, (LOW_PERCENTILE, HIGH_PERCENTILE))
    return float(high - low)


def crest_db(waveform: Waveform) -> float:
    """Highest sample of both channels against the RMS of both, in dB: 3.01 for a sine. ValueError for silence."""
    samples = _samples(waveform)
    return float(20 * np.log10(np.abs(samples).max() / np.sqrt(np.mean(samples**2))))


def centroid_hz(waveform: Waveform) -> float:
    """Centre of gravity of the mean magnitude spectrum of both channels, in Hz; loud moments count more."""
    magnitude = np.sqrt(power_spectrogram(waveform)).sum((0, 1))
    return float(frequencies_hz(waveform.sample_rate) @ magnitude / magnitude.sum())


def bark_levels_db(waveform: Waveform) -> np.ndarray:
    """Level of each critical band up to 15.5 kHz against the whole, [24] in dB, of the mean power of both channels.

    What lies lower than −60 dB counts as −60 dB.
    """
    power = power_spectrogram(waveform).sum((0, 1))
    return band_levels_db(power, waveform.sample_rate, BARK_EDGES_HZ)


def band_levels_db(power: np.ndarray, sample_rate: int, edges_hz: tuple[float, ...]) -> np.ndarray:
    """Of a power spectrum [bins]: the level of each band between two edges against the whole, [bands], ≥ −60 dB."""
    shares = band_sums(power.astype(np.float64), sample_rate, edges_hz) / power.sum(dtype=np.float64)
    return np.maximum(10 * np.log10(np.maximum(shares, 1e-30)), LEAST_BAND_DB)  # the least is exactly that


def width_db(waveform: Waveform) -> float:
    """Energy of the side (L − R) against that of the middle (L + R) in dB, within ±30.

    To each a thousandth of both is added: mono has −30, 0 is that of independent channels, and what a codec leaves at
    −50 in a mono mix is no width.
    """
    left, right = _samples(waveform)
    return ratio_db(float(np.sum((left - right) ** 2)), float(np.sum((left + right) ** 2)))


def imbalance_db(waveform: Waveform) -> float:
    """Energy of the right channel against that of the left in dB, within ±30: 0 is balanced."""
    left, right = np.sum(_samples(waveform) ** 2, axis=1)
    return ratio_db(float(right), float(left))


def ratio_db(part: float, other: float) -> float:
    """10 lg of a ratio of two energies, within ±30 dB."""
    least = LEAST_CHANNEL_SHARE * (part + other)
    return 10 * math.log10((part + least) / (other + least))


def mel_levels_db(waveform: Waveform) -> np.ndarray:
    """Mel spectrogram as levels in dBFS, [2 frames 80]: 20 Hz to 20 kHz, triangles of Slaney's scale, windows of 2048.

    A full-scale sine has −3 in all of its frame's bands together. What lies lower than −80 dBFS counts as −80.
    """
    window = _window()
    power = power_spectrogram(waveform) * (2 / (WINDOW_SAMPLES * float(np.sum(window**2))))
    levels = 10 * np.log10(np.maximum(power @ _mel_bands(waveform.sample_rate), 10 ** (LEAST_MEL_DB / 10)))
    return np.asarray(levels)


@functools.cache
def _mel_bands(sample_rate: int) -> np.ndarray:
    bins = WINDOW_SAMPLES // 2 + 1
    highest_hz = min(MEL_HIGHEST_HZ, sample_rate / 2)
    bands = melscale_fbanks(bins, MEL_LOWEST_HZ, highest_hz, MEL_BANDS, sample_rate, norm=None, mel_scale="slaney")
    return np.asarray(bands.numpy())


def power_spectrogram(waveform: Waveform, window_samples: int = WINDOW_SAMPLES) -> np.ndarray:
    """Squared magnitudes of `spectrogram`, [2 frames bins]. Raises ValueError for silence."""
    return powers(spectrogram(waveform, window_samples))


def spectrogram(waveform: Waveform, window_samples: int = WINDOW_SAMPLES) -> np.ndarray:
    """Complex [2 frames bins] of the stereo form: Hann windows, hop a quarter, silence around the ends.

    Raises ValueError for silence.
    """
    samples = _samples(waveform).astype(np.float32)
    if not samples.any():
        raise ValueError("silence has no spectrum")
    half, hop = window_samples // 2, window_samples // 4
    padded = np.pad(samples, ((0, 0), (half, half + hop)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window_samples, axis=1)[:, ::hop]
    return np.asarray(scipy.fft.rfft(frames * _window(window_samples), axis=2))


def frequencies_hz(sample_rate: int, window_samples: int = WINDOW_SAMPLES) -> np.ndarray:
    """Of the bins of `power_spectrogram`."""
    return np.fft.rfftfreq(window_samples, 1 / sample_rate)


def band_sums(power: np.ndarray, sample_rate: int, edges_hz: tuple[float, ...]) -> np.ndarray:
    """[… bins] → [… bands]: sums between neighbouring edges, 0 where a band holds no bin."""
    frequencies = frequencies_hz(sample_rate, 2 * (power.shape[-1] - 1))
    bands = np.digitize(frequencies, edges_hz) - 1
    return np.stack([power[..., bands == band].sum(-1) for band in range(len(edges_hz) - 1)], axis=-1)


@functools.cache
def _window(window_samples: int = WINDOW_SAMPLES) -> np.ndarray:
    return np.asarray(get_window("hann", window_samples).astype(np.float32))


def _samples(waveform: Waveform) -> np.ndarray:
    return np.asarray(waveform.stereo().samples.numpy(force=True).astype(np.float64))
