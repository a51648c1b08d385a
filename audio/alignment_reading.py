"""Reading a mix on its raw take's time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.signal import oaconvolve

from audio.alignment import Alignment, Region
from audio.interpolation import fractional_delay
from audio.resampling import ROLLOFF, ZERO_CROSSINGS, resample_by_polynomials

HALF_WIDTH = 64  # samples of the interpolator on either side
RATE_STEPS = 10**9  # the rate is rounded to one part in so many: 2 µs in an hour
WHOLE = 1e-4  # nearer than that to a whole sample, nothing is interpolated
ROUNDING_S = 1e-6


def aligned(
    stretch: Callable[[float, float], np.ndarray],
    alignment: Alignment,
    region: Region,
    start_s: float,
    stop_s: float,
    sample_rate: int,
) -> np.ndarray:
    """The mix from start_s to stop_s of the raw take: [channels round((stop_s − start_s) · sample_rate)] float32.

    stretch: gives the mix [channels samples] at sample_rate (Hz) from one time of its own to another, as far as it
    goes; it is asked for whole samples, from 0 on. region: one of the alignment's, which holds start_s and stop_s.
    The polarity is set right, the clock by band-limited resampling, and what is less than a sample by a Kaiser-windowed
    sinc that is flat up to 0.48 of the sample rate. A copy of the take comes back bit by bit. Where the mix has no
    samples there is silence.

    Raises ValueError where the region does not hold the stretch.
    """
    if not region.start_s - ROUNDING_S <= start_s < stop_s <= region.stop_s + ROUNDING_S:
        raise ValueError(f"a region from {region.start_s} to {region.stop_s} s does not hold {start_s} to {stop_s} s")
    rate, samples = alignment.rate, round((stop_s - start_s) * sample_rate)
    look_around = 0 if rate == 1 else math.ceil(ZERO_CROSSINGS / ROLLOFF * max(1.0, rate)) + 2
    lead = math.ceil(look_around / rate)  # samples before the first, so that the resampler's look back is filled
    position = (rate * start_s + region.offset_s) * sample_rate - rate * lead
    whole = round(position) if abs(position - round(position)) < WHOLE else math.floor(position)
    span = math.ceil((lead + samples) * rate) + look_around + 1
    piece = _piece(stretch, whole - HALF_WIDTH, span + 2 * HALF_WIDTH, sample_rate)
    if abs(position - whole) >= WHOLE:
        piece = _later(piece, position - whole)
    piece = piece[:, HALF_WIDTH:-HALF_WIDTH]
    if rate != 1:
        retimed = resample_by_polynomials(torch.from_numpy(piece), round(rate * RATE_STEPS), RATE_STEPS)
        piece = retimed.numpy()[:, lead:]
    return (alignment.polarity * piece[:, :samples]).astype(np.float32)


def _piece(stretch: Callable[[float, float], np.ndarray], start: int, samples: int, sample_rate: int) -> np.ndarray:
    """[channels samples] from sample `start` of the mix on, with silence where there is none."""
    first, stop = max(0, start), max(1, start + samples)
    found = np.asarray(stretch(first / sample_rate, stop / sample_rate))[:, : stop - first]
    if start + samples <= 0:
        found = found[:, :0]
    before = min(max(0, -start), samples)
    return np.pad(found, ((0, 0), (before, samples - before - found.shape[1])))


def _later(piece: np.ndarray, fraction: float) -> np.ndarray:
    """The piece read a fraction (0 … 1) of a sample later: [channels samples] → the same shape, ends incomplete."""
    kernel = fractional_delay(-fraction, HALF_WIDTH)
    return oaconvolve(piece.astype(np.float64), kernel[None], mode="same", axes=1)
