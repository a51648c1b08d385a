"""Band-limited resampling between any two rates, by a Kaiser-windowed sinc."""

from __future__ import annotations

import math

import numpy as np
import torch
import torchaudio
from numpy.polynomial import chebyshev
from scipy.signal import oaconvolve

from audio import on_disk

ZERO_CROSSINGS = 64  # of the sinc on either side
ROLLOFF = 0.9475937167399596  # cut-off as a share of the lower Nyquist frequency
KAISER_BETA = 14.769656459379492
MAX_TABLE_TAPS = 1 << 20  # of torchaudio's table of all phases; 48 kHz from 44.1 kHz has 45 000
POLYNOMIAL_DEGREE = 11
BLOCK_SAMPLES = 1 << 16
TABLE_BLOCK_SAMPLES = 1 << 20


def resample(samples: torch.Tensor, old_rate: int, new_rate: int) -> torch.Tensor:
    """[channels samples] at old_rate (Hz) → [channels ⌈samples · new_rate / old_rate⌉] at new_rate.

    The two ways differ in speed and memory alone: they have one kernel, and agree within 1e-5 (torchaudio's table is
    computed in float32).
    """
    divisor = math.gcd(old_rate, new_rate)
    up, down = new_rate // divisor, old_rate // divisor
    if up * (down + 2 * ZERO_CROSSINGS * max(1, down // up)) > MAX_TABLE_TAPS:
        return resample_by_polynomials(samples, old_rate, new_rate)
    # Block by block: the table's convolution takes several times the signal's memory. Blocks begin where input and
    # output samples coincide, and see as much around them as the kernel reaches.
    reach = down * math.ceil((ZERO_CROSSINGS * max(1.0, down / up) / ROLLOFF + 1) / down + 1)
    block = down * max(1, TABLE_BLOCK_SAMPLES // down)
    length = -(-samples.shape[-1] * up // down)
    out = on_disk.empty(*samples.shape[:-1], length, like=samples)
    for start in range(0, samples.shape[-1], block):
        heard_from = max(0, start - reach)
        heard = samples[..., heard_from : start + block + reach]
        # One step of silence more: torchaudio rounds the length in single precision, at times one sample too short.
        piece = _by_table(torch.nn.functional.pad(heard, (0, down)), up, down)
        at, end = start // down * up, min(length, (start + block) // down * up)
        skip = (start - heard_from) // down * up
        out[..., at:end] = piece[..., skip : skip + end - at]
        on_disk.let_go(samples, out)
    return out


def _by_table(samples: torch.Tensor, up: int, down: int) -> torch.Tensor:
    return torchaudio.functional.resample(
        samples,
        down,
        up,
        lowpass_filter_width=ZERO_CROSSINGS,
        rolloff=ROLLOFF,
        resampling_method="sinc_interp_kaiser",
        beta=KAISER_BETA,
    )


def resample_by_polynomials(samples: torch.Tensor, old_rate: int, new_rate: int) -> torch.Tensor:
    """`resample` without a table of all phases, which for 44 099 to 48 000 Hz would take 17 GB.

    Farrow's structure (1988): between two input samples every tap of the kernel is a polynomial of the position, so
    the output is a polynomial whose coefficients are the input under a few fixed filters. Twelve Chebyshev
    coefficients hold the kernel to 1e-8. Block by block, as the filters take a multiple of the signal's memory.
    """
    audio = samples.numpy(force=True)
    cutoff = ROLLOFF * min(1.0, new_rate / old_rate)
    half = math.ceil(ZERO_CROSSINGS / cutoff) + 1
    taps = np.arange(-half, half + 1)
    nodes = chebyshev.chebpts1(POLYNOMIAL_DEGREE + 1)  # −1 … 1 is from one input sample to the next
    filters = chebyshev.chebfit(nodes, _kernel(taps - (nodes[:, None] + 1) / 2, cutoff), POLYNOMIAL_DEGREE)
    length = -(-audio.shape[1] * new_rate // old_rate)
    out = on_disk.empty(len(audio), length, like=samples)
    for part in on_disk.parts(out, samples, size=BLOCK_SAMPLES):
        whole, rest = np.divmod(np.arange(part.start, part.stop) * old_rate, new_rate)
        first, stop = int(whole[0]) - half, int(whole[-1]) + half + 1
        piece = audio[:, max(0, first) : stop].astype(np.float64)
        piece = np.pad(piece, ((0, 0), (max(0, -first), stop - max(0, first) - piece.shape[1])))
        powers = chebyshev.chebvander(2 * rest / new_rate - 1, POLYNOMIAL_DEGREE)
        block = np.zeros((len(audio), len(whole)))
        for power, taps_of_power in zip(powers.T, filters, strict=True):
            filtered = oaconvolve(piece, taps_of_power[None, ::-1], mode="valid", axes=1)
            block += power * filtered[:, whole - whole[0]]
        out[:, part] = torch.from_numpy(block.astype(np.float32))
    return out


def _kernel(position: np.ndarray, cutoff: float) -> np.ndarray:
    """The windowed sinc at a distance in input samples; cutoff as a share of the input's Nyquist frequency."""
    crossings = np.clip(position * cutoff, -ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = np.i0(KAISER_BETA * np.sqrt(1 - (crossings / ZERO_CROSSINGS) ** 2)) / np.i0(KAISER_BETA)
    return cutoff * np.sinc(crossings) * window
