"""A waveform that carries its own sample rate."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from audio.resampling import resample


@dataclass(frozen=True)
class Waveform:
    """Audio in memory.

    samples: float32 tensor, shape [channels samples], full scale ±1.0.
    sample_rate: in Hz.
    """

    samples: torch.Tensor
    sample_rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 2:
            raise ValueError(f"a waveform has the shape [channels samples], not {list(self.samples.shape)}")
        if self.sample_rate <= 0:
            raise ValueError(f"a sample rate is positive, not {self.sample_rate} Hz")

    @property
    def channels(self) -> int:
        return self.samples.shape[0]

    @property
    def duration_s(self) -> float:
        return self.samples.shape[1] / self.sample_rate

    def resampled(self, sample_rate: int) -> Waveform:
        """Band-limited resampling between any two rates; the same object where the rate is the same."""
        if sample_rate == self.sample_rate:
            return self
        return Waveform(resample(self.samples, self.sample_rate, sample_rate), sample_rate)

    def stereo(self) -> Waveform:
        """Mono doubled to both channels at the same level; stereo unchanged."""
        if self.channels == 2:
            return self
        if self.channels != 1:
            raise ValueError(f"only mono becomes stereo, not {self.channels} channels")
        return Waveform(self.samples.repeat(2, 1), self.sample_rate)
