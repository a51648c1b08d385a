"""A take as the mixes are made of it: brought to the loudness of training and encoded, once for all of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from audio import on_disk
from audio.waveform import Waveform


@dataclass(frozen=True)
class EncodedTake:
    """waveform: the take at the codec's rate, stereo (of a mono take, both channels are one memory: not to be written
    to), at the loudness of training, with `tail_samples` of silence after its end. latents: of it, [1 latent frames].

    gain: from the take as it came to `waveform`. loudness_lufs: of the take as it came.
    """

    waveform: Waveform
    latents: torch.Tensor
    gain: float
    loudness_lufs: float
    tail_samples: int = 0

    @property
    def take_samples(self) -> int:
        """Without the silence after it."""
        return self.waveform.samples.shape[1] - self.tail_samples

    @property
    def tail_s(self) -> float:
        return self.tail_samples / self.waveform.sample_rate


def levelled(take: Waveform, gain: float, tail_samples: int) -> Waveform:
    """A new waveform: stereo, with a gain, and silence at its end. One channel in memory where the take has one."""
    channels, samples = take.samples.shape
    buffer = on_disk.zeros(channels, samples + tail_samples)
    for part in on_disk.parts(take.samples, buffer):
        torch.mul(take.samples[:, part], gain, out=buffer[:, part])
    return Waveform(buffer.expand(2, -1), take.sample_rate)
