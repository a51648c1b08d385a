"""A vocal effect chain in physical units, and its rendering."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pedalboard
import torch

from audio.delay import PingPongDelay, echoes, pan_gains
from audio.filters import Filter, equalise
from audio.reverb import Reverb, reverberate
from audio.waveform import Waveform


@dataclass(frozen=True)
class Compressor:
    """Downward compressor: above threshold_db (dBFS of the smoothed peak level) the slope is 1 / ratio.

    attack_ms, release_ms: time constants (63 %) of the level; makeup_db: gain after it. Ratio at least 1.
    """

    threshold_db: float
    ratio: float
    attack_ms: float
    release_ms: float
    makeup_db: float

    def __post_init__(self) -> None:
        if not self.ratio >= 1 or not self.attack_ms >= 0 or not self.release_ms >= 0:
            raise ValueError(f"a compressor has a ratio of at least 1 and no negative times: {self}")


@dataclass(frozen=True)
class EffectChain:
    """Equaliser → compressor → dry signal, ping-pong delay and reverb in parallel, summed.

    The delay hears the compressed signal in mono; the reverb hears the compressed signal plus `delay_to_reverb`
    (linear) times the echoes. dry_pan_percent: −100 … 100, of the dry signal only.
    Thresholds are absolute: feed it at the level that it was made for.
    """

    equaliser: tuple[Filter, ...]
    compressor: Compressor
    delay: PingPongDelay
    reverb: Reverb
    delay_to_reverb: float
    dry_pan_percent: float

    def __post_init__(self) -> None:
        pan_gains(self.dry_pan_percent)  # refuses what can't be panned


def compress(compressor: Compressor, samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """[channels samples] → the same shape; each channel on its own, no latency."""
    return compressor_board(compressor)(samples.astype(np.float32), sample_rate).astype(np.float64)


def compressor_board(compressor: Compressor) -> pedalboard.Pedalboard:
    """Pedalboard's times are those after which 1 − exp(−2π) of a step is reached, hence the factor 2π."""
    return pedalboard.Pedalboard(
        [
            pedalboard.Compressor(
                threshold_db=compressor.threshold_db,
                ratio=compressor.ratio,
                attack_ms=2 * math.pi * compressor.attack_ms,
                release_ms=2 * math.pi * compressor.release_ms,
            ),
            pedalboard.Gain(gain_db=compressor.makeup_db),
        ]
    )


def render(chain: EffectChain, waveform: Waveform, *, seed: int) -> Waveform:
    """Mono or stereo take → stereo mix of the same rate and length; the dry signal stays in place.

    seed: of the reverb's noise; the same seed gives the same mix. Raises ValueError for more than two channels.
    """
    rate = waveform.sample_rate
    samples = waveform.stereo().samples.numpy().astype(np.float64)
    direct = compress(chain.compressor, equalise(chain.equaliser, samples, rate), rate)
    delayed = echoes(chain.delay, direct.mean(axis=0), rate)
    sent = direct + chain.delay_to_reverb * delayed
    wet = reverberate(chain.reverb, sent, rate, np.random.default_rng(seed))
    mix = pan_gains(chain.dry_pan_percent)[:, None] * direct + delayed + wet
    return Waveform(torch.from_numpy(mix.astype(np.float32)), rate)
