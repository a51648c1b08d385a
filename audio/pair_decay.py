"""How reverberant a take is, heard blind: by how its sound decays in bands.

A dry voice stops at once or holds; a room or a reverb lets every sound die away along a straight line in dB, and
nothing can die away faster (the idea of Ratnam et al., "Blind estimation of reverberation time", JASA 114, 2003). So
slow straight decays are counted against fast ones.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter1d

FRAME_S = 0.016
SMOOTHED_FRAMES = 3
DECAY_FRAMES = 12  # one decay is a line through 0.19 s
SLOW_DB_PER_S = (-100.0, -15.0)  # T60 from 0.6 s to 4 s
FAST_DB_PER_S = -200.0  # T60 of 0.3 s
STRAIGHT_DB = 2.5  # deviation from the line, RMS
RANGE_DB = 60.0  # under the band's loud frames
LOUD_PERCENTILE, QUIET_PERCENTILE = 98, 3
UNDER_LOUD_DB = 5.0
OVER_QUIET_DB = 10.0  # the mean of a decay; its end at least half of that
PRIOR = 5.0  # counted to both sides, so that few decays prove little
LEAST_DECAYS = 50


def count_decays(level_db: np.ndarray) -> tuple[int, int]:
    """Band levels [frames bands] in dB, a frame every 16 ms → numbers of slow straight and of fast decays."""
    if len(level_db) < DECAY_FRAMES + SMOOTHED_FRAMES:
        return 0, 0
    power = uniform_filter1d(10 ** (level_db / 10), SMOOTHED_FRAMES, axis=0)
    smooth_db = 10 * np.log10(np.maximum(power, np.finfo(float).tiny))
    loud_db, quiet_db = np.percentile(smooth_db, [LOUD_PERCENTILE, QUIET_PERCENTILE], axis=0)
    smooth_db = np.maximum(smooth_db, loud_db - RANGE_DB)
    quiet_db = np.maximum(quiet_db, loud_db - RANGE_DB)
    windows = np.lib.stride_tricks.sliding_window_view(smooth_db, DECAY_FRAMES, axis=0)
    time_s = (np.arange(DECAY_FRAMES) - (DECAY_FRAMES - 1) / 2) * FRAME_S
    mean_db = windows.mean(axis=2)
    slope = windows @ time_s / (time_s**2).sum()
    variance = (windows**2).mean(axis=2) - mean_db**2 - slope**2 * (time_s**2).mean()
    heard = (mean_db > quiet_db + OVER_QUIET_DB) & (windows[:, :, -1] > quiet_db + OVER_QUIET_DB / 2)
    heard &= mean_db < loud_db - UNDER_LOUD_DB
    slow = heard & (slope > SLOW_DB_PER_S[0]) & (slope < SLOW_DB_PER_S[1]) & (variance < STRAIGHT_DB**2)
    # A stop that falls through the noise floor is the fastest decay of all: these need not be heard to their end.
    return int(slow.sum()), int((slope < FAST_DB_PER_S).sum())


def reverberance_db(slow: int, fast: int) -> float | None:
    """Slow against fast decays, 10 lg; None where there are too few of both to say anything."""
    if slow + fast < LEAST_DECAYS:
        return None
    return float(10 * np.log10((slow + PRIOR) / (fast + PRIOR)))
