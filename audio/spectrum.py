"""Long-term spectrum of audio that comes in blocks: in third-octave bands, and how far up it reaches."""

from __future__ import annotations

import math

import numpy as np
from scipy.fft import next_fast_len, rfft
from scipy.signal import get_window

FRAME_S = 0.08
THIRD_OCTAVES_HZ = tuple(1000 * 10 ** (k / 10) for k in range(-13, 14))  # 50 Hz to 20 kHz, base ten as in IEC 61260-1
CONTENT_BAND_HZ = 200.0
CONTENT_DB = -110.0  # in a band of 200 Hz: over 16-bit rounding (−119), under any converter's noise


class SpectrumMeter:
    """Mean power spectrum over all whole frames of 80 ms (Hann window, no overlap) and all channels."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        self.sample_rate = sample_rate
        self._frame = next_fast_len(round(FRAME_S * sample_rate), real=True)
        self._window = get_window("hann", self._frame).astype(np.float32)
        self._rest: np.ndarray = np.zeros((channels, 0), np.float32)
        self._power = np.zeros(self._frame // 2 + 1)
        self._frames = 0

    def feed(self, samples: np.ndarray) -> None:
        """samples: float32 [channels samples]."""
        samples = np.concatenate([self._rest, samples], axis=1)
        frames = samples.shape[1] // self._frame
        whole = samples[:, : frames * self._frame].reshape(len(samples), frames, self._frame)
        spectrum = rfft(whole * self._window, axis=-1)
        self._power += np.einsum("cfb,cfb->b", spectrum.real, spectrum.real, dtype=np.float64)
        self._power += np.einsum("cfb,cfb->b", spectrum.imag, spectrum.imag, dtype=np.float64)
        self._frames += frames * len(samples)
        self._rest = samples[:, frames * self._frame :].copy()

    def third_octaves_db(self) -> tuple[float, ...]:
        """Power in each of THIRD_OCTAVES_HZ in dBFS (a full-scale sine has −3); −inf over the Nyquist frequency.

        Below 200 Hz a tone's power is spread over neighbouring bands, which are narrower there than the window's lobe.
        """
        edges_hz = np.array(THIRD_OCTAVES_HZ)[:, None] * 10 ** np.array([-0.05, 0.05])
        return tuple(_db(power) for power in self._power_between(edges_hz))

    def bandwidth_hz(self) -> float:
        """Upper edge of the highest 200 Hz with content (over −110 dBFS); 0 where nothing has.

        Real microphones' noise counts as content. What a lossy codec or a lower sample rate once cut off does not.
        """
        edges_hz = np.arange(0.0, self.sample_rate / 2 + CONTENT_BAND_HZ / 2, CONTENT_BAND_HZ)
        power = self._power_between(np.stack([edges_hz[:-1], edges_hz[1:]], axis=1))
        content = np.flatnonzero(power > 10 ** (CONTENT_DB / 10))
        return float(edges_hz[content[-1] + 1]) if len(content) else 0.0

    def _power_between(self, edges_hz: np.ndarray) -> np.ndarray:
        """Mean square within each [bands (from, to)], in shares of bins."""
        if self._frames == 0:
            raise ValueError(f"a spectrum needs a frame of {FRAME_S} s")
        # Both halves of the spectrum hold the power: 2, but for 0 Hz; by Parseval for a windowed signal.
        power = self._power * 2 / (self._frames * self._frame * float(np.sum(self._window.astype(np.float64) ** 2)))
        power[0] /= 2
        step_hz = self.sample_rate / self._frame
        running = np.concatenate([[0.0], np.cumsum(power)])
        borders_hz = (np.arange(len(running)) - 0.5) * step_hz
        return np.diff(np.interp(edges_hz, borders_hz, running), axis=1)[:, 0]


def _db(power: float) -> float:
    return 10 * math.log10(power) if power > 0 else -math.inf
