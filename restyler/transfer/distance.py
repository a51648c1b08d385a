"""The distance that a chain is fitted by, after the loss of DiffVox (Yu et al., DAFx 2025).

Spectral distance of left and right, plus half of that of sum and difference, plus half and a quarter of the distance of
their dynamics; as in `restyler.metrics`, but on short excerpts and with a gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from codec.losses import a_weighting
from restyler.metrics import FFT_SIZES

HOP_SHARE = 2  # windows overlap by half: a quarter, as the metric has it, takes twice as long and moves no fit
LEAST_POWER = 1e-8
SIDE_SHARE = 1e-3  # of the middle: what lies 60 dB under it nobody hears, and its logarithm must not count
# A nearly mono mix would have its side, which is nothing, outweigh all else: under this share of the middle a side
# error counts as a part of that share.
WHOLE_SIDE_SHARE = 0.03
LEVELS_S = (0.05, 0.1)
WEIGHTS = {"lr": 1.0, "ms": 0.5, "dynamics_lr": 0.5, "dynamics_ms": 0.25}


class Target:
    """One excerpt of the mix to be matched, with all that is worked out of it once."""

    def __init__(self, samples: torch.Tensor, sample_rate: int) -> None:
        """samples: [2 samples]."""
        self.sample_rate = sample_rate
        with torch.no_grad():
            self.spectra = [_magnitudes(samples, size, sample_rate) for size in FFT_SIZES]
            self.levels = _levels(samples, sample_rate)

    def distance(self, samples: torch.Tensor) -> torch.Tensor:
        """How far an estimate [2 samples] is, a scalar."""
        total = torch.zeros(())
        for size, target in zip(FFT_SIZES, self.spectra, strict=True):
            found = _magnitudes(samples, size, self.sample_rate)
            least = torch.full_like(target, LEAST_POWER**0.5)
            least[3] = torch.maximum(least[3], SIDE_SHARE * target[2])
            found, target = torch.maximum(found, least), torch.maximum(target, least)
            whole = target.square().sum(dim=(1, 2)).sqrt()
            whole = torch.cat([whole[:3], torch.maximum(whole[3:], WHOLE_SIDE_SHARE * whole[2:3])])
            convergence = (found - target).square().sum(dim=(1, 2)).sqrt() / whole
            each = convergence + (found.log() - target.log()).abs().mean(dim=(1, 2))
            total = total + (WEIGHTS["lr"] * each[:2].mean() + WEIGHTS["ms"] * each[2:].mean()) / len(FFT_SIZES)
        for found, target in zip(_levels(samples, self.sample_rate), self.levels, strict=True):
            each = (found - target).abs().mean(dim=1)
            total = total + WEIGHTS["dynamics_lr"] * each[:2].mean() + WEIGHTS["dynamics_ms"] * each[2:].mean()
        return total


def _magnitudes(samples: torch.Tensor, size: int, sample_rate: int) -> torch.Tensor:
    """A-weighted magnitudes of left, right, sum and difference, [4 bins frames]."""
    spectrum = torch.stft(
        samples, size, size // HOP_SHARE, window=torch.hann_window(size), return_complex=True, pad_mode="constant"
    )
    left, right = spectrum
    four = torch.stack([left, right, left + right, left - right])
    magnitude = (four.real.square() + four.imag.square()).clamp(min=LEAST_POWER).sqrt()
    return magnitude * a_weighting(torch.fft.rfftfreq(size, 1 / sample_rate))[:, None]


def _levels(samples: torch.Tensor, sample_rate: int) -> list[torch.Tensor]:
    """How the level moves in the excerpt: logarithm of the power over short times against that of the excerpt, of left,
    right, sum and difference; for each short time [4 frames]."""
    left, right = samples
    power = torch.stack([left, right, left + right, left - right]).square()
    power = torch.cat([power[:3], torch.maximum(power[3:], SIDE_SHARE**2 * power[2:3])]).clamp(min=LEAST_POWER)
    found = []
    for time_s in LEVELS_S:
        short = min(round(time_s * sample_rate), power.shape[1])
        average = F.avg_pool1d(power[None], short, short // 4)[0].log()
        found.append(average - power.mean(dim=1, keepdim=True).log())
    return found
