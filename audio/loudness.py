"""Loudness and true peak after ITU-R BS.1770-4, and one gain that makes two recordings equally loud.

Convention: loudness is always that of the stereo form, a mono take being doubled to both channels first. BS.1770
adds the power of the channels, so the same take as one channel would measure 3 dB lower than as two; doubled, a mono
take and its stereo mix can be compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyloudnorm
from scipy.signal import oaconvolve

from audio.errors import InputError
from audio.interpolation import fractional_delay
from audio.waveform import Waveform

BLOCK_S = 0.4  # BS.1770-4: the length of a gating block
K_WEIGHTING = "DeMan"  # pyloudnorm's design with the standard's own coefficients; its default reads 0.04 LU too low
OVERSAMPLING = 8
INTERPOLATOR_HALF_WIDTH = 48  # input samples on either side
ROUNDING_DB = 0.001  # kept free under the ceiling, so that rounding to 24 bits cannot lift the peak over it


@dataclass(frozen=True)
class Matched:
    """A waveform brought to a loudness.

    gain_db: the one gain that was applied. limited: the peak ceiling allowed less gain than the loudness asked for.
    """

    waveform: Waveform
    gain_db: float
    limited: bool


def integrated_loudness_lufs(waveform: Waveform) -> float:
    """Gated loudness of the stereo form in LUFS (BS.1770-4, by pyloudnorm); mono or stereo.

    A waveform shorter than one 400 ms block is measured as a single block of its own length. Minus infinity where
    every block lies under the absolute gate of −70 LUFS.
    """
    frames = waveform.stereo().samples.numpy(force=True).T.astype(np.float64)
    # One step below the duration: rounded up, it would be longer than the waveform, which pyloudnorm refuses.
    block_s = min(BLOCK_S, math.nextafter(waveform.duration_s, 0.0))
    meter = pyloudnorm.Meter(waveform.sample_rate, K_WEIGHTING, block_s)
    return float(meter.integrated_loudness(frames))


def true_peak_db(waveform: Waveform) -> float:
    """Highest peak of the continuous signal in dBTP (BS.1770-4 Annex 2), over all channels; −inf for silence.

    Eightfold oversampling by a Kaiser-windowed sinc reads a tone at most 0.17 dB too low, up to 0.495 of the sample
    rate (the Annex asks for fourfold, 0.69 dB). The signal counts as silent before its start and after its end; ringing
    into these is part of the peak.
    """
    samples = waveform.samples.numpy(force=True).astype(np.float64)
    peak = 0.0
    # One phase of the interpolator after the other: each is a fractional delay, so nothing eightfold is ever in memory.
    for phase in range(OVERSAMPLING):
        kernel = fractional_delay(phase / OVERSAMPLING, INTERPOLATOR_HALF_WIDTH)
        peak = max(peak, float(np.abs(oaconvolve(samples, kernel[None], axes=1)).max(initial=0.0)))
    return 20 * math.log10(peak) if peak > 0 else -math.inf


def gain_to(waveform: Waveform, loudness_lufs: float) -> float:
    """The factor that brings a waveform to a loudness. Raises InputError where all of it lies below −70 LUFS."""
    now_lufs = integrated_loudness_lufs(waveform)
    if now_lufs == -math.inf:
        raise InputError("the audio is silent, or too quiet to have a loudness: all of it lies below -70 LUFS")
    return float(10 ** ((loudness_lufs - now_lufs) / 20))


def brought_to(waveform: Waveform, loudness_lufs: float) -> Waveform:
    """By one gain, over full scale where it has to be. Raises InputError as `gain_to` does."""
    return Waveform(waveform.samples * gain_to(waveform, loudness_lufs), waveform.sample_rate)


def match_loudness(waveform: Waveform, target_lufs: float, *, peak_db: float = -1.0) -> Matched:
    """Brings a waveform to `target_lufs` by one gain, or as near as the true peak stays at or under `peak_db` (dBTP).

    There is no limiter: where both can't be had the peak wins, and `limited` says so.

    Raises ValueError for a target that is not finite or a ceiling above 0 dBTP; InputError where the waveform has no
    loudness to match because all of it lies below −70 LUFS.
    """
    if not math.isfinite(target_lufs) or not peak_db <= 0:
        raise ValueError(f"a finite target and a ceiling of at most 0 dBTP, not {target_lufs} LUFS and {peak_db} dBTP")
    wanted_db = 20 * math.log10(gain_to(waveform, target_lufs))
    allowed_db = peak_db - ROUNDING_DB - true_peak_db(waveform)
    gain_db = min(wanted_db, allowed_db)
    return Matched(
        Waveform(waveform.samples * 10 ** (gain_db / 20), waveform.sample_rate), gain_db, limited=allowed_db < wanted_db
    )
