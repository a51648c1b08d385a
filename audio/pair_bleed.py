"""What a mix holds that its raw take can't have caused: backing music, or somebody else's voice.

Reverb, delay, equaliser and compressor all turn the raw take's power in a band into power in the same band, now or
later: the mix's band power is at most a non-negative, causal smear of the raw one's. The smear is fitted, and what
still stands far above it is counted. A compressor's gain follows the take's level, so a copy of the raw powers with
two thirds of their dynamics taken out is smeared and added too.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

# Frames (of 32 ms) from which and up to which one element of the smear reaches back; together 4.3 s.
LAG_EDGES_FRAMES = (0, 1, 2, 3, 5, 8, 12, 18, 27, 40, 60, 90, 135)
HISTORY_FRAMES = LAG_EDGES_FRAMES[-1]
COMPRESSED_SHARE = 2 / 3  # of the take's dynamics in dB, as a ratio of 3 : 1 takes
LOUD_PERCENTILE = 95
QUIETEST = 1e-7  # against the loud frames: a compressor lifts nothing that lies lower still
TOLERANCE = 8.0  # in power, 9 dB: reverberant bands fluctuate about their mean by that much
OUTLIER = 4.0  # bleed must not pull the fit up
FLOOR = 1e-4  # of a band's mean power in the mix: explained in any case
ITERATIONS = 40
TINY = np.finfo(np.float32).tiny
FIT_STRIDE_FRAMES = 2


def unexplained_power(raw: np.ndarray, mix: np.ndarray, history_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Band powers [frames bands] of an aligned pair → the mix's unexplained and its whole power, [bands] each.

    history_frames: so many frames at the start serve as the past of the others and are not judged.
    """
    judged = np.ascontiguousarray(mix[history_frames:].T)
    scale = judged.mean(axis=1)
    target = judged / np.maximum(scale, TINY)[:, None]
    smears = _smears(raw)[:, :, history_frames:]
    weights = _fit(np.ascontiguousarray(smears[:, :, ::FIT_STRIDE_FRAMES]), target[:, ::FIT_STRIDE_FRAMES])
    excess = np.maximum(target - TOLERANCE * _explained(smears, weights), 0)
    return excess.sum(axis=1, dtype=np.float64) * scale, judged.sum(axis=1, dtype=np.float64)


def _smears(raw: np.ndarray) -> np.ndarray:
    """[frames bands] → float32 [bands elements frames]: sums over past stretches of raw and compressed powers."""
    bands = raw.T.astype(np.float64)
    level = bands.sum(axis=0)
    loud = float(np.percentile(level, LOUD_PERCENTILE)) or float(level.max())
    relative = np.maximum(level / loud, QUIETEST) if loud > 0 else np.ones_like(level)
    spans = list(pairwise(LAG_EDGES_FRAMES))
    smears = np.empty((len(bands), 2 * len(spans), len(level)), np.float32)
    for number, source in enumerate((bands, bands * relative**-COMPRESSED_SHARE)):
        total = np.pad(np.cumsum(source, axis=1), ((0, 0), (HISTORY_FRAMES, 0)))
        for index, (near, far) in enumerate(spans):
            stop, start = HISTORY_FRAMES - near, HISTORY_FRAMES - far
            stretch = total[:, stop : stop + len(level)] - total[:, start : start + len(level)]
            smears[:, number * len(spans) + index] = stretch
    mean = smears.mean(axis=2, keepdims=True)
    # A difference of large sums may be a little under zero where the take is silent.
    return np.maximum(smears / np.where(mean > 0, mean, 1), 0)


def _explained(smears: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return (weights[:, None, :] @ smears)[:, 0] + np.float32(FLOOR)


def _fit(smears: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Non-negative weights [bands elements] by multiplicative updates for the β-divergence with β = 1/2.

    Févotte & Idier, "Algorithms for nonnegative matrix factorization with the β-divergence", Neural Computation 23
    (2011), section 4.1. β = 1/2 lies between the Itakura-Saito divergence, to which all levels count alike, and the
    Kullback-Leibler divergence, to which the loud ones count more.
    """
    weights = np.full(smears.shape[:2], 1 / smears.shape[1], np.float32)
    for _ in range(ITERATIONS):
        explained = _explained(smears, weights)
        flat = 1 / np.sqrt(explained)
        pull = np.stack([np.minimum(target, OUTLIER * explained) * flat / explained, flat], axis=2)
        wanted, had = np.moveaxis(smears @ pull, 2, 0)
        weights *= wanted / np.maximum(had, TINY)
    return weights
