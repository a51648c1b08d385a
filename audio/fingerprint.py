"""Which recordings are the same: under two names, re-encoded, resampled, louder, trimmed, or one cut out of another.

A fingerprint after Haitsma & Kalker, «A Highly Robust Audio Fingerprinting System» (ISMIR 2002): the signs of how the
energy differences of neighbouring bands change with time. Here a landmark joins two such words a fifth of a second
apart; 48 bits are long enough that two takes of one phrase by one singer share next to none, and that they can be
looked up among thousands of hours. Of all landmarks one in eight is kept, chosen by its own value, so that two copies
keep the same ones. A copy then shows as many landmarks with one time offset.

The time difference reaches over longer than in the paper: lasting notes change little from frame to frame, and the sign
of little is noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.fft import rfft

from audio.proxy import Samples

RATE_HZ = 16_000
WINDOW_SAMPLES = 4096
HOP_SAMPLES = 160
BANDS = 25
LOWEST_HZ, HIGHEST_HZ = 300.0, 4000.0
CHANGE_FRAMES = 16
PARTNER_FRAMES = 20
FRAMES_AT_ONCE = 2000

BAND_FLOOR_DB = -50.0  # against the loudest band of the frame: what is lower is a codec's, not the voice's
QUIET_FRAME_DB = -45.0  # against the recording's loud frames
STEADY = 0.02  # change of a band difference (natural logarithm of power) that could be rounding
LEAST_MOVING_BITS = (BANDS - 1) // 2

KEPT_BITS = 3  # one landmark in 2³
FRAME_BITS = 24  # of an entry: up to 46 hours; the other 40 are the landmark
MAX_BUCKET = 64
MIN_LANDMARKS = 6
OFFSET_TOLERANCE_FRAMES = 2


def fingerprint(proxy: Samples, rate: int) -> np.ndarray:
    """Landmarks of a mono recording, uint64 [landmarks], in order of time: 40 bits of value over 24 of time (10 ms).

    About six a second of voice, 180 kB an hour; none for silence and steady tones. Deterministic, the same at any gain.

    proxy: float32 [samples] at 16 kHz, read in blocks: an array or a `Proxy`. Raises ValueError for another rate.
    """
    if rate != RATE_HZ:
        raise ValueError(f"fingerprints are taken at {RATE_HZ} Hz, not {rate} Hz")
    energy = _band_energy(proxy)
    if len(energy) <= CHANGE_FRAMES + PARTNER_FRAMES:
        return np.zeros(0, np.uint64)
    loudest = energy.max(axis=1)
    reference = np.percentile(loudest, 95)
    if reference <= 0:
        return np.zeros(0, np.uint64)
    floor = np.maximum(loudest[:, None] * 10 ** (BAND_FLOOR_DB / 10), reference * 1e-12)
    words = np.empty(len(energy) - CHANGE_FRAMES, np.uint64)
    usable = loudest[CHANGE_FRAMES:] >= reference * 10 ** (QUIET_FRAME_DB / 10)
    for start in range(0, len(words), FRAMES_AT_ONCE):
        some = slice(start, start + FRAMES_AT_ONCE)
        words[some], moving = _words(
            energy[start : some.stop + CHANGE_FRAMES], floor[start : some.stop + CHANGE_FRAMES]
        )
        usable[some] &= moving
    both = usable[:-PARTNER_FRAMES] & usable[PARTNER_FRAMES:]
    frames = np.flatnonzero(both).astype(np.uint64)
    mixed = _mix(words[:-PARTNER_FRAMES][both] << np.uint64(BANDS - 1) | words[PARTNER_FRAMES:][both])
    kept = mixed & np.uint64((1 << KEPT_BITS) - 1) == 0
    kept[1:] &= mixed[1:] != mixed[:-1]  # what stays the same for a while is one landmark
    return mixed[kept] >> np.uint64(FRAME_BITS) << np.uint64(FRAME_BITS) | frames[kept]


class Match(NamedTuple):
    """Two recordings with some seconds in common.

    score: share of the landmarks of the sparser one, where both lie over each other, that are common at the best time
    offset. Around 0.4 for a copy through a lossy codec, 1 for an exact one; small where two recordings have one passage
    in common. overlap: share of the shorter one, from its first landmark to its last, that lies over the other.
    """

    first: str
    second: str
    score: float
    overlap: float


def duplicates(fingerprints: Mapping[str, np.ndarray]) -> list[Match]:
    """Pairs of names (in the order of the mapping) whose recordings share at least some seconds.

    One sorted index of all landmarks is searched, so the time grows with what is common and not with the number of
    pairs. A landmark that occurs more than 64 times is common to all and left out.
    """
    names = list(fingerprints)
    entries = np.concatenate([np.zeros(0, np.uint64), *fingerprints.values()])
    owners = np.repeat(np.arange(len(names)), [len(fingerprints[name]) for name in names])
    order = np.argsort(entries, kind="stable")
    entries, owners = entries[order], owners[order]
    values, frames = entries >> np.uint64(FRAME_BITS), (entries & np.uint64((1 << FRAME_BITS) - 1)).astype(np.int64)
    result = []
    for first, second, offset, votes in _votes(values, frames, owners):
        fewer, overlap = _in_common(fingerprints[names[first]], fingerprints[names[second]], offset)
        result.append(Match(names[first], names[second], min(1.0, votes / max(1, fewer)), overlap))
    return result


def _words(energy: np.ndarray, floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[frames bands] → for all but the first frames the signs of the change, as bits, and whether enough changes."""
    tilt = np.diff(np.log(energy + floor), axis=1)
    change = tilt[CHANGE_FRAMES:] - tilt[:-CHANGE_FRAMES]
    words = (change > 0).astype(np.uint64) @ (np.uint64(1) << np.arange(BANDS - 1, dtype=np.uint64))
    return words, (np.abs(change) > STEADY).sum(axis=1) >= LEAST_MOVING_BITS


def _band_energy(proxy: Samples) -> np.ndarray:
    """[frames bands], bands of equal width in octaves."""
    edges = np.round(np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1) * WINDOW_SAMPLES / RATE_HZ).astype(int)
    window = np.hanning(WINDOW_SAMPLES).astype(np.float32)
    frames = max(0, (len(proxy) - WINDOW_SAMPLES) // HOP_SAMPLES + 1)
    energy = np.empty((frames, BANDS), np.float32)
    for start in range(0, frames, FRAMES_AT_ONCE):
        stop = min(start + FRAMES_AT_ONCE, frames)
        piece = np.asarray(proxy[start * HOP_SAMPLES : (stop - 1) * HOP_SAMPLES + WINDOW_SAMPLES], np.float32)
        cut = np.lib.stride_tricks.sliding_window_view(piece, WINDOW_SAMPLES)[::HOP_SAMPLES]
        spectrum = rfft(cut * window, axis=1)[:, : edges[-1]]
        power = spectrum.real**2 + spectrum.imag**2
        energy[start:stop] = np.add.reduceat(power, edges[:-1], axis=1)
    return energy


def _mix(values: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit integers whose every bit depends on all (finaliser of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _votes(values: np.ndarray, frames: np.ndarray, owners: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(first, second, offset in frames, landmarks in common) of the best offset of each pair with enough of them."""
    found = []
    alive: np.ndarray = np.arange(len(values))
    for distance in range(1, MAX_BUCKET):
        alive = alive[alive + distance < len(values)]
        alive = alive[values[alive] == values[alive + distance]]
        if not len(alive):
            break
        one, other = alive, alive + distance
        differ = owners[one] != owners[other]
        one, other = one[differ], other[differ]
        swap = owners[one] > owners[other]
        one, other = np.where(swap, other, one), np.where(swap, one, other)
        found.append(np.stack([owners[one], owners[other], frames[other] - frames[one]], axis=1))
    if not found:
        return []
    rows, counts = np.unique(np.concatenate(found), axis=0, return_counts=True)
    best: dict[tuple[int, int], tuple[int, int]] = {}
    starts = np.flatnonzero(np.diff(rows[:, 0], prepend=-1) | np.diff(rows[:, 1], prepend=-1))
    for start, stop in pairwise(np.append(starts, len(rows))):
        offsets, votes = rows[start:stop, 2], counts[start:stop]
        if votes.sum() < MIN_LANDMARKS:
            continue
        running = np.concatenate([[0], np.cumsum(votes)])
        near = running[np.searchsorted(offsets, offsets + OFFSET_TOLERANCE_FRAMES, "right")]
        near = near - running[np.searchsorted(offsets, offsets - OFFSET_TOLERANCE_FRAMES, "left")]
        top = int(np.argmax(near))
        if near[top] >= MIN_LANDMARKS:
            best[int(rows[start, 0]), int(rows[start, 1])] = int(offsets[top]), int(near[top])
    return [(*pair, *vote) for pair, vote in best.items()]


def _in_common(first: np.ndarray, second: np.ndarray, offset: int) -> tuple[int, float]:
    """Where both recordings lie over each other: the landmarks of the sparser one there, and the share of the shorter
    one that this is."""
    mask = np.uint64((1 << FRAME_BITS) - 1)
    early, late = (first & mask).astype(np.int64) + offset, (second & mask).astype(np.int64)
    start, stop = max(early[0], late[0]), min(early[-1], late[-1])
    fewer = min(int(((times >= start) & (times <= stop)).sum()) for times in (early, late))
    shorter = min(int(times[-1] - times[0]) for times in (early, late))
    return fewer, float((stop - start) / shorter) if shorter else 1.0
