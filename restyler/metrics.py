"""How far a rendering is from an engineer's mix, as distances that other papers can be compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from auraloss.freq import MultiResolutionSTFTLoss, SumAndDifferenceSTFTLoss

from audio.errors import InputError
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform

LOUDNESS_LUFS = -18.0
FFT_SIZES = (128, 512, 2048)


@dataclass(frozen=True)
class SpectralDistance:
    """Multi-resolution STFT distance, lower is nearer. lr: of left and right; ms: of sum and difference.

    ms explodes where the reference is nearly mono: quote its median.
    """

    lr: float
    ms: float


def spectral_distance(reference: Waveform, estimate: Waveform) -> SpectralDistance:
    """Distance between two stereo signals of the same length and rate, both brought to −18 LUFS first.

    Spectral convergence plus L1 of log magnitudes at FFT sizes 128, 512 and 2048, hop a quarter, A-weighted: the
    settings of DiffVox (Yu et al. 2025), computed by auraloss (Steinmetz & Reiss 2020). Raises ValueError for signals
    of different shape or rate, InputError for a silent one.
    """
    if reference.sample_rate != estimate.sample_rate or reference.samples.shape != estimate.samples.shape:
        raise ValueError(
            f"compared are signals of one shape and rate, not {list(reference.samples.shape)} at "
            f"{reference.sample_rate} Hz and {list(estimate.samples.shape)} at {estimate.sample_rate} Hz"
        )
    settings: dict[str, Any] = {
        "fft_sizes": list(FFT_SIZES),
        "hop_sizes": [size // 4 for size in FFT_SIZES],
        "win_lengths": list(FFT_SIZES),
        "perceptual_weighting": True,
        "sample_rate": reference.sample_rate,
    }
    x, y = at_loudness(estimate)[None], at_loudness(reference)[None]
    with torch.no_grad():
        return SpectralDistance(
            lr=float(MultiResolutionSTFTLoss(**settings)(x, y)), ms=float(SumAndDifferenceSTFTLoss(**settings)(x, y))
        )


def at_loudness(waveform: Waveform) -> torch.Tensor:
    """Samples [channels samples] at −18 LUFS by one gain, over full scale where it has to be."""
    loudness_lufs = integrated_loudness_lufs(waveform)
    if loudness_lufs == -float("inf"):
        raise InputError("a silent signal has no distance to a mix: all of it lies below -70 LUFS")
    return waveform.samples.float() * 10 ** ((LOUDNESS_LUFS - loudness_lufs) / 20)
