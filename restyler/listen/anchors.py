"""The low-pass anchors of ITU-R BS.1534-3 (5.1): what is compared must not drift from test to test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import firwin, kaiserord, oaconvolve

from audio.waveform import Waveform

STOP_DB = 60.0  # beyond the transition; the recommendation asks for 25 dB at its end and 50 dB a step further


@dataclass(frozen=True)
class LowPass:
    """A linear-phase low-pass: within ±0.1 dB up to pass_hz, at least 50 dB down (60 by design) from stop_hz."""

    pass_hz: float
    stop_hz: float

    def taps(self, sample_rate: int) -> np.ndarray:
        """Its odd number of coefficients at a rate in Hz, by Kaiser's window. Raises ValueError where stop_hz lies at
        or above half of it."""
        nyquist_hz = sample_rate / 2
        if self.stop_hz >= nyquist_hz:
            raise ValueError(f"a low-pass of {self.stop_hz:g} Hz needs a rate above twice that, not {sample_rate} Hz")
        count, beta = kaiserord(STOP_DB, (self.stop_hz - self.pass_hz) / nyquist_hz)
        centre_hz = (self.pass_hz + self.stop_hz) / 2
        taps: np.ndarray = firwin(count | 1, centre_hz, window=("kaiser", beta), fs=sample_rate)
        return taps

    def of(self, waveform: Waveform) -> Waveform:
        """The filtered sound, not delayed and as long as it was; silence counts before its start and after its end."""
        samples = waveform.samples.numpy(force=True).astype(np.float64)
        filtered = oaconvolve(samples, self.taps(waveform.sample_rate)[None], mode="full", axes=1)
        delay = (filtered.shape[1] - samples.shape[1]) // 2
        return Waveform(
            torch.from_numpy(filtered[:, delay : delay + samples.shape[1]].astype(np.float32)), waveform.sample_rate
        )


ANCHORS = {
    "anchor35": LowPass(3500.0, 4000.0),  # ±0.1 dB, 25 dB at 4 kHz, 50 dB at 4.5 kHz
    "anchor70": LowPass(7000.0, 8000.0),  # no figures are given for it: the same, twice as high
}
