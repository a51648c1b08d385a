"""Loudness and true peak after ITU-R BS.1770-4, and one gain that makes two recordings equally loud.

Convention: loudness is always that of the stereo form, a mono take being doubled to both channels first. BS.1770
adds the power of the channels, so the same take as one channel would measure 3 dB lower than as two; doubled, a mono
take and its stereo mix can be compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from audio import on_disk
from audio.errors import InputError
from audio.interpolation import INTERPOLATOR_HALF_WIDTH, SEGMENT_SAMPLES, oversampler, phases
from audio.meters import LoudnessMeter, gated_lufs
from audio.waveform import Waveform

SEGMENTS_BOUNDED_AT_ONCE = 1 << 16  # 87 s at 48 kHz
SEGMENTS_AT_ONCE = 1 << 8
ROUNDING_DB = 0.001  # kept free under the ceiling, so that rounding to 24 bits cannot lift the peak over it


@dataclass(frozen=True)
class Matched:
    """A waveform brought to a loudness.

    gain_db: the one gain that was applied. limited: the peak ceiling allowed less gain than the loudness asked for.
    loudness_lufs, true_peak_db: of the waveform.
    """

    waveform: Waveform
    gain_db: float
    limited: bool
    loudness_lufs: float
    true_peak_db: float


def integrated_loudness_lufs(waveform: Waveform) -> float:
    """Gated loudness of the stereo form in LUFS (BS.1770-4); mono or stereo, in bounded memory.

    A waveform shorter than one 400 ms block is measured as a single block of its own length. Minus infinity where every
    block lies under the absolute gate of −70 LUFS.
    """
    return gated_lufs(_block_powers(waveform))


def _block_powers(waveform: Waveform) -> np.ndarray:
    """Of the stereo form, [blocks]."""
    if waveform.channels > 2:
        raise ValueError(f"one or two channels are measured, not {waveform.channels}")
    meter, samples = LoudnessMeter(waveform.sample_rate), waveform.samples
    for part in on_disk.parts(samples):
        meter.feed(samples[:, part].numpy(force=True))
    return meter.block_powers()


def true_peak_db(waveform: Waveform) -> float:
    """Highest peak of the continuous signal in dBTP (BS.1770-4 Annex 2), over all channels; −inf for silence.

    Eightfold oversampling by a Kaiser-windowed sinc reads a tone at most 0.17 dB too low, up to 0.495 of the sample
    rate (the Annex asks for fourfold, 0.69 dB). The signal counts as silent before its start and after its end; ringing
    into these is part of the peak.

    Only where the peak may be is interpolated: what lies between samples is no higher than the highest of those that
    the interpolator sees times the sum of its taps' magnitudes. Loud segments come first, so that they spare the rest.
    """
    half, matrix, highest = INTERPOLATOR_HALF_WIDTH, oversampler(), 0.0
    most = max(float(np.abs(kernel).sum()) for kernel in phases())
    for channel in waveform.samples.numpy(force=True):
        # Segments of output begin half a kernel before the signal and end as far after it.
        segments = -(-(len(channel) + 2 * half) // SEGMENT_SAMPLES)
        for first in range(0, segments, SEGMENTS_BOUNDED_AT_ONCE):
            bound = most * _seen_by_segments(channel, first, min(first + SEGMENTS_BOUNDED_AT_ONCE, segments))
            order = np.argsort(-bound, kind="stable")
            # The first are few: they are enough to know nearly how high the peak is.
            for some in (order[:16], *np.split(order[16:], range(SEGMENTS_AT_ONCE, len(order) - 16, SEGMENTS_AT_ONCE))):
                some = some[bound[some] > highest]
                if not len(some):
                    break
                at = (first + some[:, None]) * SEGMENT_SAMPLES + np.arange(-2 * half, SEGMENT_SAMPLES)
                inside = (at >= 0) & (at < len(channel))
                seen = np.where(inside, channel[np.clip(at, 0, len(channel) - 1)], 0.0).astype(np.float64)
                highest = max(highest, float(np.abs(seen @ matrix).max()))
                on_disk.let_go(channel)  # what is looked at lies anywhere
    return 20 * math.log10(highest) if highest > 0 else -math.inf


def _seen_by_segments(channel: np.ndarray, first: int, stop: int) -> np.ndarray:
    """The highest magnitude [stop − first] among the samples that the interpolator sees for each segment of its output
    from the first on: those of output segment k, which starts half a kernel earlier, are k·64 − 96 … k·64 + 63."""
    reach = -(-2 * INTERPOLATOR_HALF_WIDTH // SEGMENT_SAMPLES)
    own = np.zeros(stop - first + reach)
    begin = max(0, first - reach) * SEGMENT_SAMPLES
    heard = channel[begin : stop * SEGMENT_SAMPLES]
    for part in on_disk.parts(heard):
        piece = np.abs(heard[part])
        found = np.maximum.reduceat(piece, np.arange(0, len(piece), SEGMENT_SAMPLES))
        at = (begin + part.start) // SEGMENT_SAMPLES - first + reach
        own[at : at + len(found)] = found
    return np.max([own[shift : shift + stop - first] for shift in range(reach + 1)], axis=0)


def gain_to(waveform: Waveform, loudness_lufs: float) -> float:
    """The factor that brings a waveform to a loudness. Raises InputError where all of it lies below −70 LUFS."""
    return float(10 ** ((loudness_lufs - _audible_lufs(integrated_loudness_lufs(waveform))) / 20))


def _audible_lufs(now_lufs: float) -> float:
    if now_lufs == -math.inf:
        raise InputError("the audio is silent, or too quiet to have a loudness: all of it lies below -70 LUFS")
    return now_lufs


def brought_to(waveform: Waveform, loudness_lufs: float) -> Waveform:
    """By one gain, over full scale where it has to be. Raises InputError as `gain_to` does."""
    return Waveform(waveform.samples * gain_to(waveform, loudness_lufs), waveform.sample_rate)


def match_loudness(waveform: Waveform, target_lufs: float, *, peak_db: float = -1.0, in_place: bool = False) -> Matched:
    """Brings a waveform to `target_lufs` by one gain, or as near as the true peak stays at or under `peak_db` (dBTP).

    There is no limiter: where both can't be had the peak wins, and `limited` says so. in_place: the waveform passed in
    is the one that changes, for want of memory.

    Raises ValueError for a target that is not finite or a ceiling above 0 dBTP; InputError where the waveform has no
    loudness to match because all of it lies below −70 LUFS.
    """
    if not math.isfinite(target_lufs) or not peak_db <= 0:
        raise ValueError(f"a finite target and a ceiling of at most 0 dBTP, not {target_lufs} LUFS and {peak_db} dBTP")
    powers = _block_powers(waveform)
    wanted_db, peak = target_lufs - _audible_lufs(gated_lufs(powers)), true_peak_db(waveform)
    allowed_db = peak_db - ROUNDING_DB - peak
    gain_db = min(wanted_db, allowed_db)
    factor = 10 ** (gain_db / 20)
    source = waveform.samples
    samples = source if in_place else on_disk.empty(*source.shape, like=source)
    for part in on_disk.parts(samples, source):
        torch.mul(source[:, part], factor, out=samples[:, part])
    return Matched(
        Waveform(samples, waveform.sample_rate),
        gain_db,
        limited=allowed_db < wanted_db,
        loudness_lufs=gated_lufs(powers * factor**2),
        true_peak_db=peak + gain_db,
    )
