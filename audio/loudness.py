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
from scipy.signal import lfilter

from audio.errors import InputError
from audio.interpolation import fractional_delay
from audio.waveform import Waveform

BLOCK_S = 0.4  # BS.1770-4: the length of a gating block
K_WEIGHTING = "DeMan"  # pyloudnorm's design with the standard's own coefficients; its default reads 0.04 LU too low
OVERSAMPLING = 8
INTERPOLATOR_HALF_WIDTH = 48  # input samples on either side
OVERLAP = 0.75  # of gating blocks
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
LOUDNESS_OFFSET = -0.691  # eq. 2 of the standard
SAMPLES_AT_ONCE = 1 << 18
SEGMENT_SAMPLES = 64  # interpolated together
SEGMENTS_AT_ONCE = 1 << 12
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
    """Gated loudness of the stereo form in LUFS (BS.1770-4); mono or stereo.

    What pyloudnorm gives with its design `K_WEIGHTING`, in bounded memory. A waveform shorter than one 400 ms block is
    measured as a single block of its own length. Minus infinity where every block lies under the absolute gate of −70
    LUFS.
    """
    return gated_lufs(gating_powers(waveform))


def gating_powers(waveform: Waveform) -> np.ndarray:
    """K-weighted power of the stereo form in each gating block, the channels added (BS.1770-4, eq. 1), [blocks]."""
    rate, samples = waveform.sample_rate, waveform.samples
    if waveform.channels > 2:
        raise ValueError(f"one or two channels are measured, not {waveform.channels}")
    # One step below the duration: rounded up, it would be longer than the waveform.
    block_s = min(BLOCK_S, math.nextafter(waveform.duration_s, 0.0))
    filters = list(pyloudnorm.Meter(rate, K_WEIGHTING, block_s)._filters.values())
    states = [np.zeros((waveform.channels, len(each.b) - 1)) for each in filters]
    step = 1 - OVERLAP
    blocks = round((waveform.duration_s - block_s) / (block_s * step)) + 1
    edges = [(int(block_s * (j * step) * rate), int(block_s * (j * step + 1) * rate)) for j in range(blocks)]
    powers, begin, held = list[float](), 0, np.zeros((waveform.channels, 0))  # what is held starts at sample `begin`
    for start in range(0, samples.shape[1], SAMPLES_AT_ONCE):
        piece = samples[:, start : start + SAMPLES_AT_ONCE].numpy(force=True).astype(np.float64)
        for number, each in enumerate(filters):
            piece, states[number] = lfilter(each.b, each.a, piece, axis=1, zi=states[number])
            piece *= each.passband_gain
        held = np.concatenate([held, np.square(piece)], axis=1)
        end = begin + held.shape[1]
        while len(powers) < blocks and (edges[len(powers)][1] <= end or end == samples.shape[1]):
            first, stop = edges[len(powers)]
            powers.append(float(held[:, first - begin : stop - begin].sum(axis=1).sum()) / (block_s * rate))
        if len(powers) < blocks:
            held, begin = held[:, edges[len(powers)][0] - begin :], edges[len(powers)][0]
    return np.array(powers) * (2 / waveform.channels)


def gated_lufs(powers: np.ndarray) -> float:
    """Of gating blocks: the mean of those that lie over both gates (BS.1770-4, eq. 4 to 7); −inf for none."""
    loud = powers[_lufs(powers) >= ABSOLUTE_GATE_LUFS]
    if not len(loud):
        return -math.inf
    above = (_lufs(powers) > _lufs(loud.mean()) + RELATIVE_GATE_LU) & (_lufs(powers) > ABSOLUTE_GATE_LUFS)
    return float(_lufs(powers[above].mean())) if above.any() else -math.inf


def _lufs(power: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.asarray(LOUDNESS_OFFSET + 10 * np.log10(power))


def true_peak_db(waveform: Waveform) -> float:
    """Highest peak of the continuous signal in dBTP (BS.1770-4 Annex 2), over all channels; −inf for silence.

    Eightfold oversampling by a Kaiser-windowed sinc reads a tone at most 0.17 dB too low, up to 0.495 of the sample
    rate (the Annex asks for fourfold, 0.69 dB). The signal counts as silent before its start and after its end; ringing
    into these is part of the peak.

    Only where the peak may be is interpolated: what lies between samples is no higher than the highest of those that
    the interpolator sees times the sum of its taps' magnitudes. Loud segments come first, so that they spare the rest.
    """
    half, matrix, highest = INTERPOLATOR_HALF_WIDTH, _interpolator(), 0.0
    most = max(float(np.abs(kernel).sum()) for kernel in _kernels())
    for channel in waveform.samples.numpy(force=True):
        # Segments of output begin half a kernel before the signal and end as far after it.
        segments = -(-(len(channel) + 2 * half) // SEGMENT_SAMPLES)
        bound = most * _seen_by_segments(channel, segments)
        order = np.argsort(-bound, kind="stable")
        for start in range(0, segments, SEGMENTS_AT_ONCE):
            # The first are few: they are enough to know nearly how high the peak is.
            chosen = order[start : start + SEGMENTS_AT_ONCE]
            for some in (chosen[:16], chosen[16:]) if start == 0 else (chosen,):
                some = some[bound[some] > highest]
                if len(some):
                    at = some[:, None] * SEGMENT_SAMPLES + np.arange(-2 * half, SEGMENT_SAMPLES)
                    inside = (at >= 0) & (at < len(channel))
                    seen = np.where(inside, channel[np.clip(at, 0, len(channel) - 1)], 0.0).astype(np.float64)
                    highest = max(highest, float(np.abs(seen @ matrix).max()))
            if bound[order[min(start + SEGMENTS_AT_ONCE, segments - 1)]] <= highest:
                break
    return 20 * math.log10(highest) if highest > 0 else -math.inf


def _seen_by_segments(channel: np.ndarray, segments: int) -> np.ndarray:
    """The highest magnitude [segments] among the samples that the interpolator sees for each segment of its output:
    those of output segment k, which starts half a kernel earlier, are k·64 − 96 … k·64 + 63."""
    reach = -(-2 * INTERPOLATOR_HALF_WIDTH // SEGMENT_SAMPLES)
    own = np.zeros(segments + reach)
    for start in range(0, len(channel), SAMPLES_AT_ONCE):
        piece = np.abs(channel[start : start + SAMPLES_AT_ONCE])
        found = np.maximum.reduceat(piece, np.arange(0, len(piece), SEGMENT_SAMPLES))
        first = start // SEGMENT_SAMPLES + reach
        own[first : first + len(found)] = found
    return np.max([own[shift : shift + segments] for shift in range(reach + 1)], axis=0)


def _kernels() -> list[np.ndarray]:
    """One fractional delay for each phase of the interpolator, [2 · half width + 1]."""
    return [fractional_delay(phase / OVERSAMPLING, INTERPOLATOR_HALF_WIDTH) for phase in range(OVERSAMPLING)]


def _interpolator() -> np.ndarray:
    """[samples seen, positions]: from what a segment sees to its values at and between its samples."""
    half = INTERPOLATOR_HALF_WIDTH
    matrix = np.zeros((SEGMENT_SAMPLES + 2 * half, SEGMENT_SAMPLES, OVERSAMPLING))
    for phase, kernel in enumerate(_kernels()):
        for position in range(SEGMENT_SAMPLES):
            matrix[position : position + 2 * half + 1, position, phase] = kernel[::-1]
    return matrix.reshape(len(matrix), -1)


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
    powers = gating_powers(waveform)
    wanted_db, peak = target_lufs - _audible_lufs(gated_lufs(powers)), true_peak_db(waveform)
    allowed_db = peak_db - ROUNDING_DB - peak
    gain_db = min(wanted_db, allowed_db)
    factor = 10 ** (gain_db / 20)
    samples = waveform.samples.mul_(factor) if in_place else waveform.samples * factor
    return Matched(
        Waveform(samples, waveform.sample_rate),
        gain_db,
        limited=allowed_db < wanted_db,
        loudness_lufs=gated_lufs(powers * factor**2),
        true_peak_db=peak + gain_db,
    )
