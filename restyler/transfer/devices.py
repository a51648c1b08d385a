"""The parts of the fitted chain as functions of their values that gradients go through.

What is linear is a response at the frequencies of a transform, as in DiffVox (Yu et al., DAFx 2025) and its forerunners
(Nercessian, DAFx 2020); the compressor is the one that renders. `audio.parts` remains what is heard: a test holds the
two against each other.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch

from audio.effects import Compressor, compress
from audio.parts_builtin import FLAT_Q, REVERB_BANDS_HZ
from audio.reverb import band_weights
from restyler.transfer.knobs import EQUALISER, PEAKS, Values

RINGING_SAMPLES = 1 << 14  # how long filters are taken to ring
# What the compressor's values are moved by to see what that changes: small against what is heard, far over rounding.
NUDGES = {"threshold_db": 0.1, "ratio": 1.02, "attack_ms": 1.05, "release_ms": 1.05}


def biquad(
    kind: str, frequency_hz: torch.Tensor, q: torch.Tensor | float, gain_db: torch.Tensor | float, turn: torch.Tensor,
    sample_rate: int,
) -> torch.Tensor:  # fmt: skip
    """Complex response [bins] of `audio.filters.Filter` at turn = e^(−iω), [bins]; the same Cookbook formulae."""
    omega = 2 * math.pi * frequency_hz / sample_rate
    cosine, alpha = torch.cos(omega), torch.sin(omega) / (2 * q)
    amplitude = 10 ** (torch.as_tensor(gain_db) / 40)
    if kind == "peak":
        b = (1 + alpha * amplitude, -2 * cosine, 1 - alpha * amplitude)
        a = (1 + alpha / amplitude, -2 * cosine, 1 - alpha / amplitude)
    elif kind in ("low_pass", "high_pass"):
        sign = 1 if kind == "low_pass" else -1
        edge = 1 - sign * cosine
        b = (edge / 2, sign * edge, edge / 2)
        a = (1 + alpha, -2 * cosine, 1 - alpha)
    else:
        mirror = 1 if kind == "low_shelf" else -1
        plus, minus, slope = amplitude + 1, (amplitude - 1) * mirror * cosine, 2 * amplitude.sqrt() * alpha
        b = (
            amplitude * (plus - minus + slope),
            2 * amplitude * mirror * (amplitude - 1 - plus * mirror * cosine),
            amplitude * (plus - minus - slope),
        )
        a = (plus + minus + slope, -2 * mirror * (amplitude - 1 + plus * mirror * cosine), plus + minus - slope)
    return (b[0] + turn * (b[1] + turn * b[2])) / (a[0] + turn * (a[1] + turn * a[2]))


def equaliser(values: Values, turn: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """Complex response [bins] of all bands in series."""

    def of_peaks(name: str) -> torch.Tensor:
        return torch.stack([values[f"{peak}.{name}"] for peak in PEAKS])[:, None]

    response = biquad("peak", of_peaks("frequency_hz"), of_peaks("q"), of_peaks("gain_db"), turn, sample_rate).prod(0)
    for name in EQUALISER:
        if name not in PEAKS:
            gain_db = values.get(f"{name}.gain_db", 0.0)
            response = response * biquad(name, values[f"{name}.frequency_hz"], FLAT_Q, gain_db, turn, sample_rate)
    return response


def _finely(response: torch.Tensor, samples: int) -> torch.Tensor:
    """A response at the bins of a short transform → at those of one of `samples`: filters ring for a short time."""
    return torch.fft.rfft(torch.fft.irfft(response), n=samples)


class _Compress(torch.autograd.Function):
    """The compressor that renders. Backward: the gain at every sample stands as it is, and what a value changes is seen
    by nudging it."""

    @staticmethod
    def forward(ctx: Any, samples: torch.Tensor, sample_rate: int, *settings: torch.Tensor) -> torch.Tensor:
        audio = samples.detach().numpy()
        told = {name: float(value) for name, value in zip(NUDGES, settings, strict=True)}

        def run(**changed: float) -> torch.Tensor:
            return torch.from_numpy(compress(Compressor(**(told | changed), makeup_db=0.0), audio, sample_rate)).float()

        out = run()
        slopes = []
        for name, nudge in NUDGES.items():
            moved = told[name] + nudge if name.endswith("_db") else told[name] * nudge
            slopes.append((run(**{name: moved}) - out) / (moved - told[name]))
        ctx.save_for_backward(torch.where(samples.abs() > 1e-9, out / samples, 1.0), *slopes)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        gain, *slopes = ctx.saved_tensors
        return (gain * grad, None, *((slope * grad).sum() for slope in slopes))


def compressor(values: Values, samples: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """[channels samples] → the same shape."""
    out: torch.Tensor = _Compress.apply(samples, sample_rate, *(values[f"compressor.{name}"] for name in NUDGES))
    return out * 10 ** (values["compressor.makeup_db"] / 20)


def pan_gains(percent: torch.Tensor) -> torch.Tensor:
    """`audio.delay.pan_gains`, [left right]."""
    angle = (percent + 100) / 200 * math.pi / 2
    return math.sqrt(2) * torch.stack([torch.cos(angle), torch.sin(angle)])


def ping_pong(values: Values, samples: int, sample_rate: int) -> torch.Tensor:
    """Complex responses [left/right bins] from the middle of the sound to the echoes alone."""
    name = "ping_pong_delay"
    low_pass = biquad("low_pass", values[f"{name}.low_pass_hz"], FLAT_Q, 0.0, turns(RINGING_SAMPLES), sample_rate)
    line = _late(values[f"{name}.time_ms"], samples, sample_rate) * _finely(low_pass, samples)
    feedback = values[f"{name}.feedback"]
    odd = 10 ** (values[f"{name}.wet_db"] / 20) * line / (1 - (feedback * line) ** 2)
    even = feedback * line * odd
    pans = [pan_gains(values[f"{name}.{which}_pan_percent"]) for which in ("odd", "even")]
    return pans[0][:, None] * odd + pans[1][:, None] * even


def _late(time_ms: torch.Tensor, samples: int, sample_rate: int) -> torch.Tensor:
    """The response [bins] of coming later."""
    omega = torch.arange(samples // 2 + 1) * (2 * math.pi / samples)
    angle = omega * (time_ms / 1000 * sample_rate)
    return torch.complex(torch.cos(angle), -torch.sin(angle))


def noise_bank(samples: int, sample_rate: int, noise: np.random.Generator) -> torch.Tensor:
    """Two channels of white noise in the bands of the part `reverb`: [bands 2 samples]."""
    spectrum = np.fft.rfft(noise.standard_normal((2, samples)))
    weights = band_weights(REVERB_BANDS_HZ, np.fft.rfftfreq(samples, 1 / sample_rate))
    return torch.from_numpy(np.fft.irfft(weights[:, None] * spectrum, n=samples).astype(np.float32))


def reverb(values: Values, bank: torch.Tensor, samples: int, sample_rate: int) -> torch.Tensor:
    """Complex responses [left/right bins] from the middle of the sound to the reverb alone, whose noise is `bank`."""
    name = "reverb"
    seconds = torch.arange(bank.shape[-1]) / sample_rate
    t60_s = torch.stack([values[f"{name}.t60_{band}_s"] for band in ("low", "mid", "high")])
    body = (bank * 10 ** (-3 * seconds / t60_s[:, None])[:, None]).sum(dim=0)
    left, other = body / body.square().sum(dim=-1, keepdim=True).sqrt()
    correlation = values[f"{name}.correlation"]
    both = torch.stack([left, correlation * left + torch.sqrt(1 - correlation**2) * other])
    passed = torch.ones(())
    for kind in ("high_pass", "low_pass"):
        edge_hz = values[f"{name}.{kind}_hz"]
        passed = passed * biquad(kind, edge_hz, FLAT_Q, 0.0, turns(RINGING_SAMPLES), sample_rate)
    late = _late(values[f"{name}.pre_delay_ms"], samples, sample_rate) * _finely(passed, samples)
    return 10 ** (values[f"{name}.wet_db"] / 20) * torch.fft.rfft(both, n=samples) * late


@functools.cache
def turns(samples: int) -> torch.Tensor:
    """e^(−iω) at the bins of a real transform of an even number of samples."""
    return torch.exp(-2j * torch.pi * torch.arange(samples // 2 + 1) / samples)


def equalise(values: Values, samples: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """[channels samples] → the same shape, an even number of samples, round the end."""
    length = samples.shape[-1]
    response = _finely(equaliser(values, turns(RINGING_SAMPLES), sample_rate), length)
    return torch.fft.irfft(torch.fft.rfft(samples) * response, n=length)


def chain(values: Values, samples: torch.Tensor, bank: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """Take [1 or 2 channels, samples] → mix [2 samples]; an even number of samples.

    What is linear goes round the end: the mix is that of the whole from where the longest response has died away.
    """
    length = samples.shape[-1]
    direct = compressor(values, equalise(values, samples, sample_rate), sample_rate)
    if len(direct) == 2:
        middle, side = direct.mean(dim=0), (direct[0] - direct[1]) / 2 * values["width.width_percent"] / 100
        direct = torch.stack([middle + side, middle - side])
    direct = pan_gains(values["pan.pan_percent"])[:, None] * direct
    echoes = ping_pong(values, length, sample_rate)
    wet = echoes + reverb(values, bank, length, sample_rate) * (1 + echoes.mean(dim=0))
    return direct + torch.fft.irfft(wet * torch.fft.rfft(direct.mean(dim=0)), n=length)
