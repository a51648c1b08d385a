"""Resampling of audio that comes in blocks, in bounded memory; `audio.meters` measures such blocks.

The blocks may be of any length, and nothing depends on where they end. Files are read from start to end
(`audio.io.blocks`), because seeking lands a few samples off in some formats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from scipy.signal import oaconvolve

from audio.resampling import ROLLOFF, ZERO_CROSSINGS, resample
from audio.waveform import Waveform

LEAST_BLOCK_SAMPLES = 1 << 16  # resampled at once, so that the margins don't cost more than the blocks


def resampled(blocks: Iterable[Waveform], sample_rate: int) -> Iterator[Waveform]:
    """What `Waveform.resampled` gives for the whole, within 1e-5, block by block; some of the blocks may be empty.

    blocks: in order, all at one sample rate, which may be `sample_rate` itself: then they are passed on.
    """
    resampler: StreamResampler | None = None
    for block in blocks:
        if block.sample_rate == sample_rate:
            yield block
            continue
        if resampler is None:
            resampler = StreamResampler(block.sample_rate, sample_rate)
        yield Waveform(torch.from_numpy(resampler.feed(block.samples.numpy())), sample_rate)
    if resampler is not None:
        yield Waveform(torch.from_numpy(resampler.finish()), sample_rate)


class StreamResampler:
    """`audio.resampling.resample` for a signal that comes in blocks.

    With up/down the ratio of the rates in lowest terms, every `down` input samples see the output's grid in the same
    way. So a block that starts at a multiple of `down` can be resampled as a signal of its own, with margins as wide as
    the kernel reaches, which are thrown away afterwards.
    """

    def __init__(self, old_rate: int, new_rate: int) -> None:
        self.old_rate, self.new_rate = old_rate, new_rate
        divisor = math.gcd(old_rate, new_rate)
        self._up, self._down = new_rate // divisor, old_rate // divisor
        reach = (ZERO_CROSSINGS / ROLLOFF + 2) * max(1.0, old_rate / new_rate)
        self._margin = math.ceil(reach / self._down) * self._down
        self._least = max(LEAST_BLOCK_SAMPLES, 4 * self._margin)
        self._taps = _decimation_taps(self._down, self._margin) if self._up == 1 and self._down > 1 else None
        self._pending: np.ndarray | None = None  # starts with the left margin
        self._left = 0  # how long that is: nothing at the start

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """float32 [channels samples] at old_rate → those of new_rate that are now certain, perhaps none."""
        pending = samples if self._pending is None else np.concatenate([self._pending, samples], axis=1)
        ready = (pending.shape[1] - self._left - self._margin) // self._down * self._down
        if ready < self._least:
            self._pending = pending
            return np.zeros((len(pending), 0), np.float32)
        stop = self._left + ready
        result = self._resample(pending[:, : stop + self._margin])[:, self._at(self._left) : self._at(stop)]
        new_left = min(self._margin, stop)
        self._pending, self._left = pending[:, stop - new_left :].copy(), new_left
        return result

    def finish(self) -> np.ndarray:
        """The rest. ValueError where nothing was fed."""
        if self._pending is None:
            raise ValueError("nothing was fed to the resampler")
        return self._resample(self._pending)[:, self._at(self._left) :]

    def _at(self, samples: int) -> int:
        return samples // self._down * self._up

    def _resample(self, samples: np.ndarray) -> np.ndarray:
        if self._taps is None:
            return resample(torch.from_numpy(samples), self.old_rate, self.new_rate).numpy()
        filtered = oaconvolve(samples, self._taps[None], axes=1)
        middle = len(self._taps) // 2
        return filtered[:, middle : middle + samples.shape[1] : self._down]


def _decimation_taps(down: int, margin: int) -> np.ndarray:
    """The filter behind `resample` by an integer factor: its answer to impulses at `down` positions, interleaved.

    torchaudio computes such a filter as one strided convolution without any batching, which takes four times as long
    as this filter by FFT.
    """
    impulses = np.zeros((down, 2 * margin + down), np.float32)
    impulses[np.arange(down), margin + np.arange(down)] = 1
    answers = resample(torch.from_numpy(impulses), down, 1).numpy()
    # Output m lies at input m · down and row j has its impulse at margin + j: their distance is the tap.
    distance = np.arange(answers.shape[1])[None] * down - margin - np.arange(down)[:, None]
    inside = np.abs(distance) <= margin
    taps = np.zeros(2 * margin + 1, np.float32)
    taps[distance[inside] + margin] = answers[inside]
    return taps
