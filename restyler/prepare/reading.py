"""Any stretch of an audio file, to the sample, while the file is read from its start to its end once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from audio.io import blocks
from audio.waveform import Waveform

KEPT_S = 6.0  # of the end of what was asked for last: what is read around neighbouring stretches overlaps


class StretchReader:
    """Stretches of a file in the order of time. Seeking would be quicker, but lands samples off in MP3 and others.

    A stretch that lies before what is still held is reached by reading from the start again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._restart()

    def _restart(self) -> None:
        self._blocks: Iterator[Waveform] = blocks(self.path)
        first = next(self._blocks)
        self.sample_rate, self.channels = first.sample_rate, first.channels
        self._held, self._begin = first.samples, 0

    def stretch(self, start_s: float, stop_s: float) -> torch.Tensor:
        """float32 [channels samples], sample round(start_s · rate) up to round(stop_s · rate), silence around the file.

        Raises InputError where the file turns out to be damaged.
        """
        start, stop = round(start_s * self.sample_rate), round(stop_s * self.sample_rate)
        if max(start, 0) < self._begin:
            self._restart()
        keep = stop - round(KEPT_S * self.sample_rate)
        parts, end = [self._held], self._begin + self._held.shape[1]
        while end < stop and (block := next(self._blocks, None)) is not None:
            parts.append(block.samples)
            end += block.samples.shape[1]
            while len(parts) > 1 and self._begin + parts[0].shape[1] <= min(start, keep):  # all of it is past
                self._begin += parts.pop(0).shape[1]
        held = torch.cat(parts, dim=1)
        result = torch.zeros(self.channels, stop - start)
        first, last = max(start, self._begin), min(stop, end)
        if first < last:
            result[:, first - start : last - start] = held[:, first - self._begin : last - self._begin]
        keep = min(max(keep, self._begin), end)
        self._held, self._begin = held[:, keep - self._begin :].clone(), keep
        return result
