"""The residual rendering: what the codec lost of the raw take, put back into a decoded mix where the mix keeps it.

Raw take R, what the codec leaves of it D, decoded mix M, each channel for itself, in short-time spectra: the gain
G = ⟨M·D*⟩ / ⟨|D|²⟩, averaged around each time and frequency, is what turns D into M most nearly (least squares; a
Wiener filter). Out comes M + G·(R − D). Where the mix is an equalised or louder take, G is that equaliser or gain,
with its phase; where the mix goes its own way, as in reverb after the take has ended, M and D are incoherent, G is
small, and M stays alone, but for what chance finds alike in them: a room that hums on gets a seventh to a fifth of
|M|/|D| there, MOST_GAIN at the most. Where M is D, out comes R.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft, rfft
from scipy.ndimage import uniform_filter1d
from scipy.signal import get_window

from audio import on_disk

WINDOW = 2048
HOP = WINDOW // 4
FRAMES_EACH_SIDE = 8  # averaged over ±85 ms at 48 kHz: shorter, G would follow the codec's errors
OCTAVES_EACH_SIDE = 1 / 12
BINS_EACH_SIDE = 2  # at least
MOST_GAIN = 10 ** (30 / 20)
LEAST_POWER = 1e-18
FRAMES_AT_ONCE = 512


def with_residual(mix: np.ndarray, raw: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Decoded mix M, raw take R and what the codec leaves of it D → the mix, all float32 [channels samples]. Raises
    ValueError where the shapes differ."""
    whole = mix.copy()
    put_back(whole, raw, decoded)
    return whole


def put_back(mix: np.ndarray, raw: np.ndarray, decoded: np.ndarray) -> None:
    """`with_residual` in the mix's own place.

    Block by block: memory beside the signals does not grow with their length, and the blocks don't show. Raises
    ValueError where the shapes differ.
    """
    if not mix.shape == raw.shape == decoded.shape or mix.ndim != 2:
        raise ValueError(f"[channels samples] of one shape are needed, not {mix.shape}, {raw.shape}, {decoded.shape}")
    for each in zip(mix, raw, decoded, strict=True):
        _one_channel(*each)


def _one_channel(mix: np.ndarray, raw: np.ndarray, decoded: np.ndarray) -> None:
    window = np.sqrt(get_window("hann", WINDOW)).astype(np.float32)
    frames = -(-len(mix) // HOP) + WINDOW // HOP - 1  # the first window reaches WINDOW − HOP ahead of the start
    ahead = WINDOW - HOP
    overlapping = WINDOW // HOP / 2  # what the squared windows add up to: Hann's at a hop of a quarter
    done = 0
    waiting: np.ndarray = np.zeros(0, np.float32)  # what is to be added from sample `done − ahead` on
    for start in range(0, frames, FRAMES_AT_ONCE):
        stop = min(frames, start + FRAMES_AT_ONCE)
        first, last = max(0, start - FRAMES_EACH_SIDE), min(frames, stop + FRAMES_EACH_SIDE)
        ours, theirs = _spectra(mix, first, last, window), _spectra(decoded, first, last, window)
        gain = _gain(ours, theirs)[start - first : stop - first]
        lost = _spectra(raw, start, stop, window) - theirs[start - first : stop - first]
        waiting = np.append(waiting, np.zeros((stop - 1) * HOP + WINDOW - done - len(waiting), np.float32))
        for frame, piece in zip(range(start, stop), irfft(gain * lost, axis=1) * window, strict=True):
            at = frame * HOP - done
            waiting[at : at + WINDOW] += piece
        # The next block looks back at the mix as it was.
        until = (frames - 1) * HOP + WINDOW if stop == frames else max(done, (stop - FRAMES_EACH_SIDE) * HOP)
        begin, end = max(0, done - ahead), min(len(mix), until - ahead)
        if end > begin:
            mix[begin:end] += waiting[begin + ahead - done : end + ahead - done] / overlapping
        done, waiting = until, waiting[until - done :]
        on_disk.let_go(mix, raw, decoded)


def _spectra(samples: np.ndarray, first: int, last: int, window: np.ndarray) -> np.ndarray:
    """Of frames first … last − 1, [frames bins]; silence around the signal."""
    begin, end = first * HOP - (WINDOW - HOP), (last - 1) * HOP + HOP
    piece = samples[max(0, begin) : max(0, end)]
    padded = np.pad(piece, (max(0, -begin), end - max(0, begin) - len(piece)))
    return np.asarray(rfft(np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * window, axis=1))


def _gain(mix: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """G, averaged around each frame and bin, no more than MOST_GAIN; [frames bins]."""
    reference = decoded.astype(np.complex128)  # running averages lose what is quiet after loud in single precision
    cross = _around(mix * reference.conj())
    power = _around(np.square(np.abs(reference)))
    gain = cross / np.maximum(power, LEAST_POWER)
    return gain / np.maximum(1.0, np.abs(gain) / MOST_GAIN)


def _around(spectra: np.ndarray) -> np.ndarray:
    """Averages over FRAMES_EACH_SIDE and a sixth of an octave; what lies beyond the signal counts as nothing."""
    in_time = uniform_filter1d(spectra, 2 * FRAMES_EACH_SIDE + 1, axis=0, mode="constant")
    bins = np.arange(spectra.shape[1])
    low = np.minimum(bins * 2**-OCTAVES_EACH_SIDE, bins - BINS_EACH_SIDE).clip(min=0).astype(int)
    high = np.maximum(bins * 2**OCTAVES_EACH_SIDE, bins + BINS_EACH_SIDE).clip(max=bins[-1]).astype(int) + 1
    running = np.pad(np.cumsum(in_time, axis=1), ((0, 0), (1, 0)))
    return np.asarray((running[:, high] - running[:, low]) / (high - low))
