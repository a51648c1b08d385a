"""Clipping and dropouts, found in audio that comes in blocks.

Both leave stretches of equal samples that end abruptly. Clipping holds the highest level of the file; a dropout holds
any level, mostly zero, in the middle of sound.
"""

from __future__ import annotations

import numpy as np

NEAR_PEAK = 0.84  # of the highest sample so far: what lies lower can't be a clipped top
FLATNESS = 1e-4  # of the level, between neighbours: 3 steps of 16 bit at full scale, so that dither may lie over it
MIN_TOP_SAMPLES = 3
MIN_EDGE = 2e-3  # of the level: how far a top falls with its first neighbours, both together; a round one falls less
LEVEL_STEP_DB = 0.05
LOWEST_LEVEL_DB = -100.0
HIGHEST_LEVEL_DB = 50.0
SAME_LEVEL_DB = 0.3

SHORTEST_DROPOUT_S = 0.5e-3
LONGEST_DROPOUT_S = 0.2
EDGE_S = 0.5e-3
CONTEXT_S = 10e-3
EDGE_DB = -14.0  # the edge against its context
MIN_EDGE_DBFS = -50.0
MIN_CONTEXT_DB = -30.0  # against the loudest context so far
MAX_POSITIONS = 1000


class FaultMeter:
    """Finds clipped tops and dropouts in a signal that comes in blocks.

    clipped_samples, clipped_tops: see `clipping`; dropouts: how many, dropout_times_s: where the first 1000 begin.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        self.sample_rate = sample_rate
        self.dropouts = 0
        self.dropout_times_s: list[float] = []
        self._peak = np.zeros((channels, 2))  # highest and, negated, lowest sample
        self._loudest = np.zeros(channels)
        self._context = round(CONTEXT_S * sample_rate)
        self._keep = round(LONGEST_DROPOUT_S * sample_rate) + 2 * self._context + 2
        self._buffer = np.zeros((channels, self._keep), np.float32)
        self._start = -self._keep  # of the buffer, in samples of the signal
        # [channels, ends of the range, levels, (samples, tops)]
        levels = round((HIGHEST_LEVEL_DB - LOWEST_LEVEL_DB) / LEVEL_STEP_DB)
        self._tops = np.zeros((channels, 2, levels, 2), np.int64)

    def feed(self, samples: np.ndarray) -> None:
        """samples: float32 [channels samples]."""
        buffer = np.concatenate([self._buffer, samples], axis=1)
        found = []
        for number, channel in enumerate(buffer):
            self._peak[number] = np.maximum(self._peak[number], [channel.max(), -channel.min()])
            self._find_tops(channel, self._peak[number, 0], self._tops[number, 0])
            self._find_tops(-channel, self._peak[number, 1], self._tops[number, 1])
            found.append(self._find_dropouts(number, channel))
        starts = np.unique(np.concatenate(found))
        # Channels lose their samples together: what begins within a millisecond is one dropout.
        starts = starts[np.diff(starts, prepend=-self.sample_rate) > self.sample_rate // 1000]
        self.dropouts += len(starts)
        room = MAX_POSITIONS - len(self.dropout_times_s)
        self.dropout_times_s += [float(start) / self.sample_rate for start in (starts + self._start)[:room]]
        self._start += buffer.shape[1] - self._keep
        self._buffer = buffer[:, -self._keep :].copy()

    def finish(self) -> None:
        """To be called once, after the last block: the end is followed by silence."""
        self.feed(np.zeros((len(self._buffer), self._context + 1), np.float32))

    def clipping(self) -> tuple[int, int]:
        """Samples in clipped tops, and the number of such tops, over all channels.

        A clipped top is three or more equal samples at one end of the channel's range, with both flanks falling away;
        at most 0.3 dB below the highest such top at that end, which may be 1.5 dB below the highest sample.
        """
        same = round(SAME_LEVEL_DB / LEVEL_STEP_DB)
        samples = tops = 0
        levels = self._tops.shape[2]
        for counts, peak in zip(self._tops.reshape(-1, levels, 2), self._peak.ravel(), strict=True):
            occupied = np.flatnonzero(counts[:, 1])
            if len(occupied) and occupied[-1] >= _level_bin(peak * NEAR_PEAK):
                counted = counts[max(0, occupied[-1] - same) : occupied[-1] + 1].sum(axis=0)
                samples, tops = samples + int(counted[0]), tops + int(counted[1])
        return samples, tops

    def _find_tops(self, channel: np.ndarray, peak: float, counts: np.ndarray) -> None:
        """Adds the clipped tops of the positive side to counts [levels (samples, tops)]."""
        high = np.flatnonzero(channel >= max(NEAR_PEAK * peak, 10 ** (LOWEST_LEVEL_DB / 20)))
        high = high[(high > 0) & (high < len(channel) - 2)]
        level = channel[high]
        starts, lengths = _runs(high[np.abs(channel[high + 1] - level) <= FLATNESS * level])
        stops = starts + lengths  # the last flat sample
        # What ends earlier was in the buffer before.
        fresh = (lengths >= MIN_TOP_SAMPLES - 1) & (stops + 1 >= self._keep)
        starts, stops = starts[fresh], stops[fresh]
        level, before, after = channel[starts], channel[starts - 1], channel[stops + 1]
        top = (before < level) & (after < level) & (2 * level - before - after >= MIN_EDGE * level)
        found = np.stack([stops[top] - starts[top] + 1, np.ones(int(top.sum()), np.int64)], axis=1)
        np.add.at(counts, _level_bin(level[top]), found)

    def _find_dropouts(self, number: int, channel: np.ndarray) -> np.ndarray:
        """First samples of dropouts in the buffer that were not there before."""
        rate, context, edge = self.sample_rate, self._context, round(EDGE_S * self.sample_rate)
        starts, lengths = _runs(np.flatnonzero(channel[1:] == channel[:-1]))
        lengths = lengths + 1
        stops = starts + lengths
        fresh = (lengths >= SHORTEST_DROPOUT_S * rate) & (lengths <= LONGEST_DROPOUT_S * rate)
        # Those that end so late have not got their context yet; those that end so early had it before.
        fresh &= (stops + context < len(channel)) & (stops + context >= self._keep) & (starts > context)
        high, low = NEAR_PEAK * self._peak[number]
        clipped = (channel[starts] != 0) & ((channel[starts] >= high) | (channel[starts] <= -low))
        found = []
        for start, stop in zip(starts[fresh & ~clipped], stops[fresh & ~clipped], strict=True):
            before, after = channel[start - context : start], channel[stop : stop + context]
            contexts = [_swing(before), _swing(after)]
            edges = [_swing(before[-edge:]), _swing(after[:edge])]
            self._loudest[number] = max(self._loudest[number], *contexts)
            abrupt = all(
                near >= 10 ** (EDGE_DB / 20) * wide
                and near >= 10 ** (MIN_EDGE_DBFS / 20)
                and wide >= 10 ** (MIN_CONTEXT_DB / 20) * self._loudest[number]
                for near, wide in zip(edges, contexts, strict=True)
            )
            if abrupt:
                found.append(start)
        return np.array(found, np.int64)


def _runs(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First elements and lengths of runs of successive integers."""
    if not len(positions):
        return positions, positions
    first = np.flatnonzero(np.diff(positions, prepend=positions[0] - 2) != 1)
    return positions[first], np.diff(first, append=len(positions))


def _level_bin(level: np.ndarray | float) -> np.ndarray:
    return np.floor((20 * np.log10(level) - LOWEST_LEVEL_DB) / LEVEL_STEP_DB).astype(np.int64)


def _swing(samples: np.ndarray) -> float:
    """RMS around the mean: a constant offset is no sound."""
    return float(samples.std(dtype=np.float64))
