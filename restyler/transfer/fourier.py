"""Long transforms of one or two real signals, by one complex transform: real ones take MKL several times as long."""

from __future__ import annotations

from typing import Any

import torch


def spectra(samples: torch.Tensor) -> torch.Tensor:
    """`torch.fft.rfft` of [1 or 2 channels, samples], an even number of samples."""
    found: torch.Tensor = _Spectra.apply(samples)
    return found


def signals(of: torch.Tensor) -> torch.Tensor:
    """`torch.fft.irfft` of [1 or 2 channels, bins]."""
    found: torch.Tensor = _Signals.apply(of)
    return found


class _Spectra(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, samples: torch.Tensor) -> torch.Tensor:
        return _forth(samples)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        return _back(_inner(grad, 0.5)) * (2 * grad.shape[1] - 2)


class _Signals(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, of: torch.Tensor) -> torch.Tensor:
        return _back(of)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        return _inner(_forth(grad), 2.0) / grad.shape[1]


def _inner(of: torch.Tensor, factor: float) -> torch.Tensor:
    """All bins but the first and the last, which stand for one frequency and not for two, times a factor."""
    scaled = of * factor
    scaled[:, [0, -1]] = of[:, [0, -1]]
    return scaled


def _forth(samples: torch.Tensor) -> torch.Tensor:
    """left + i·right: left's spectrum is the part of the sum's that is even under reflection and conjugation."""
    half = samples.shape[1] // 2
    right = samples[1] if len(samples) == 2 else torch.zeros_like(samples[0])
    both = torch.fft.fft(torch.complex(samples[0], right))
    if len(samples) == 1:
        return both[None, : half + 1]
    reflected = torch.cat([both[:1], both[half:].flip(0)]).conj()
    return torch.stack([both[: half + 1] + reflected, (reflected - both[: half + 1]) * 1j]) / 2


def _back(of: torch.Tensor) -> torch.Tensor:
    whole = of[0] + 1j * of[1] if len(of) == 2 else of[0]
    reflected = (of[0] - 1j * of[1] if len(of) == 2 else of[0])[1:-1].flip(0).conj()
    both = torch.cat([whole, reflected])
    for end in (0, of.shape[1] - 1):
        both[end] = torch.complex(
            of[0, end].real, of[-1, end].real if len(of) == 2 else torch.zeros_like(of[0, end].real)
        )
    sound = torch.fft.ifft(both)
    return torch.stack([sound.real, sound.imag][: len(of)])
