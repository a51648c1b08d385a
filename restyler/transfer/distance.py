"""The distance that a chain is fitted by, after the loss of DiffVox (Yu et al., DAFx 2025).

Spectral distance of left and right, plus half of that of sum and difference, plus half and a quarter of the distance of
their dynamics; as in `restyler.metrics`, but on short excerpts and with a gradient.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from codec.losses import a_weighting
from restyler.metrics import FFT_SIZES

LEAST_POWER = 1e-8
SIDE_SHARE = 1e-3  # of the middle: what lies 60 dB under it nobody hears, and its logarithm must not count
# A nearly mono mix would have its side, which is nothing, outweigh all else: under this share of the middle a side
# error counts as a part of that share.
WHOLE_SIDE_SHARE = 0.03
LEVELS_S = (0.05, 0.1)
LEVELS_OVERLAP = 4  # of these averages each begins a quarter of its time after the last
WEIGHTS = {"lr": 1.0, "ms": 0.5, "dynamics_lr": 0.5, "dynamics_ms": 0.25}
SIDE = 3  # of left, right, sum and difference


class Target:
    """One excerpt of the mix to be matched, with all that is worked out of it once."""

    def __init__(self, samples: torch.Tensor, sample_rate: int) -> None:
        """samples: [2 samples]."""
        self.resolutions = [_Resolution(samples, size, sample_rate) for size in FFT_SIZES]
        self.strides = [
            max(1, min(round(time_s * sample_rate), samples.shape[1]) // LEVELS_OVERLAP) for time_s in LEVELS_S
        ]
        with torch.no_grad():
            powers = _views(*samples).square()
            self.floors = [SIDE_SHARE**2 * _averages(powers[2:3], stride)[0] for stride in self.strides]
            self.levels = [_levels(powers, *each) for each in zip(self.strides, self.floors, strict=True)]

    def distance(self, samples: torch.Tensor) -> torch.Tensor:
        """How far an estimate [2 samples] is, a scalar."""
        total: torch.Tensor = _Spectral.apply(samples, self.resolutions)
        powers = _views(*samples).square()
        for stride, floor, target in zip(self.strides, self.floors, self.levels, strict=True):
            each = (_levels(powers, stride, floor) - target).abs().mean(dim=1)
            total = total + WEIGHTS["dynamics_lr"] * each[:2].mean() + WEIGHTS["dynamics_ms"] * each[2:].mean()
        return total


def _views(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return torch.stack([left, right, left + right, left - right])


class _Spectral(torch.autograd.Function):
    """Mean of the distances at all resolutions. The gradient is worked out by hand, on the way: by autograd it takes
    four times as long."""

    @staticmethod
    def forward(ctx: Any, samples: torch.Tensor, resolutions: list[_Resolution]) -> torch.Tensor:
        values, gradients = zip(*(resolution.distance(samples) for resolution in resolutions), strict=True)
        ctx.save_for_backward(torch.stack(gradients).mean(dim=0))
        return torch.stack(values).mean()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return grad * gradient, None


class _Resolution:
    """The mix in A-weighted magnitudes of one window size.

    Windows overlap by half: a quarter, as the metric has it, takes twice as long and moves no fit."""

    def __init__(self, samples: torch.Tensor, size: int, sample_rate: int) -> None:
        self.hop = size // 2
        self.window = torch.hann_window(size)
        self.weights = a_weighting(torch.fft.rfftfreq(size, 1 / sample_rate))
        # From a gradient at the bins of a real transform to one at samples: irfft counts inner bins twice.
        self.back = self.weights * (size / 2)
        self.back[[0, -1]] *= 2
        powers = [power.clamp(min=LEAST_POWER) for power in _powers(*self._spectra(samples))]
        self.floors = [torch.tensor(LEAST_POWER)] * SIDE + [(SIDE_SHARE**2 * powers[2]).clamp(min=LEAST_POWER)]
        self.targets = [torch.maximum(*each).sqrt() for each in zip(powers, self.floors, strict=True)]
        self.logs = [target.log() for target in self.targets]
        self.wholes = [float(torch.linalg.vector_norm(target)) for target in self.targets]
        self.wholes[SIDE] = max(self.wholes[SIDE], WHOLE_SIDE_SHARE * self.wholes[2])

    def _spectra(self, samples: torch.Tensor) -> torch.Tensor:
        """A-weighted spectra of left and right, [2 frames bins]."""
        frames = F.pad(samples, (self.hop, self.hop)).unfold(1, 2 * self.hop, self.hop)
        return torch.fft.rfft(frames * self.window) * self.weights

    def distance(self, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Spectral convergence and mean error of the logarithm, weighed over the views; the gradient, [2 samples]."""
        left, right = self._spectra(samples)
        total, slopes = torch.zeros(()), []
        for place, power in enumerate(_powers(left, right)):
            floor, weight = self.floors[place], (WEIGHTS["lr"] if place < 2 else WEIGHTS["ms"]) / 2
            above = power > floor
            magnitude = torch.maximum(power, floor, out=power).sqrt_()
            logs = (magnitude.log() - self.logs[place]).abs_().mean()
            error = magnitude - self.targets[place]
            whole_error = torch.linalg.vector_norm(error)
            total += weight * (whole_error / self.wholes[place] + logs)
            # By the magnitude, over the magnitude: times the spectrum that is the gradient by real and imaginary part.
            inverse = magnitude.reciprocal_().mul_(above)
            signs = error.sign().mul_(inverse)
            scale = weight / float((whole_error * self.wholes[place]).clamp(min=1e-20))
            slopes.append(error.mul_(scale).add_(signs, alpha=weight / error.numel()).mul_(inverse))
        both, apart = slopes[2] + slopes[3], slopes[2] - slopes[3]
        found = torch.stack([(slopes[0] + both) * left + apart * right, (slopes[1] + both) * right + apart * left])
        frames = torch.fft.irfft(found * self.back) * self.window
        blocks = F.pad(frames[..., : self.hop], (0, 0, 0, 1)) + F.pad(frames[..., self.hop :], (0, 0, 1, 0))
        return total, blocks.flatten(1)[:, self.hop : self.hop + samples.shape[1]]


def _powers(left: torch.Tensor, right: torch.Tensor) -> list[torch.Tensor]:
    """Of left, right, sum and difference."""
    lefts, rights, sides = ((each.real.square()).addcmul_(each.imag, each.imag) for each in (left, right, left - right))
    return [lefts, rights, (2 * (lefts + rights) - sides).clamp_(min=0), sides]


def _averages(powers: torch.Tensor, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of power [4 samples] over short times, LEVELS_OVERLAP strides long, [4 frames]; and over all, [4 1]."""
    blocks = powers[:, : powers.shape[1] // stride * stride].unflatten(1, (-1, stride)).mean(dim=2)
    return blocks.unfold(1, min(LEVELS_OVERLAP, blocks.shape[1]), 1).mean(dim=2), powers.mean(dim=1, keepdim=True)


def _levels(powers: torch.Tensor, stride: int, side_floor: torch.Tensor) -> torch.Tensor:
    """How the level moves in the excerpt: logarithm of the power over short times against that of the excerpt, of left,
    right, sum and difference; [4 frames]."""
    short, whole = (each.clamp(min=LEAST_POWER) for each in _averages(powers, stride))
    short = torch.cat([short[:SIDE], torch.maximum(short[SIDE:], side_floor)])
    whole = torch.cat([whole[:SIDE], torch.maximum(whole[SIDE:], side_floor.mean(dim=1, keepdim=True))])
    return short.log() - whole.log()
