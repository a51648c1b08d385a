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
import torch.nn.functional as F

from audio.effects import Compressor, compressor_board
from audio.parts_builtin import REVERB_BANDS_HZ
from audio.reverb import band_weights
from restyler.transfer.filters import ECHO, ROOM, TONE, response, turns
from restyler.transfer.fourier import signals, spectra
from restyler.transfer.knobs import Values

RINGING_SAMPLES = 1 << 13  # how long filters are taken to ring
COMPRESSOR = ("threshold_db", "ratio", "attack_ms", "release_ms")
TIMES = COMPRESSOR[2:]
NUDGE = 1.05  # what times are moved by: small against what is heard, far over rounding


def _finely(response: torch.Tensor, samples: int) -> torch.Tensor:
    """Responses [1 or 2, bins] of a short transform → at the bins of one of `samples`: filters ring for a while."""
    return spectra(F.pad(torch.fft.irfft(response), (0, samples - RINGING_SAMPLES)))


class _Compress(torch.autograd.Function):
    """The compressor that renders. Backward: the gain at every sample stands as it is. What threshold and ratio change
    follows from it where it isn't 1, as there it is (level / threshold)^(1 / ratio − 1); what a time changes is seen by
    nudging it."""

    @staticmethod
    def forward(ctx: Any, samples: torch.Tensor, sample_rate: int, *settings: torch.Tensor) -> torch.Tensor:
        audio = samples.detach().numpy()
        told = {name: float(value) for name, value in zip(COMPRESSOR, settings, strict=True)}

        def run(**changed: float) -> torch.Tensor:
            board = compressor_board(Compressor(**(told | changed), makeup_db=0.0))
            return torch.from_numpy(board[0](audio, sample_rate))

        out = run()
        gain = torch.where(samples.abs() > 1e-9, out / samples, 1.0)
        flatter = 1 - 1 / told["ratio"]
        threshold_slope = out * (gain < 1) * (flatter * math.log(10) / 20)
        ratio_slope = out * gain.clamp(min=1e-9, max=1).log() / (flatter * told["ratio"] ** 2)
        slopes = []
        for name in TIMES:
            moved = told[name] * NUDGE
            slopes.append((run(**{name: moved}) - out) / (moved - told[name]))
        ctx.save_for_backward(gain, threshold_slope, ratio_slope, *slopes)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        gain, *slopes = ctx.saved_tensors
        return (gain * grad, None, *((slope * grad).sum() for slope in slopes))


def compressor(values: Values, samples: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """[channels samples] → the same shape."""
    out: torch.Tensor = _Compress.apply(samples, sample_rate, *(values[f"compressor.{name}"] for name in COMPRESSOR))
    return out * 10 ** (values["compressor.makeup_db"] / 20)


def pan_gains(percent: torch.Tensor) -> torch.Tensor:
    """`audio.delay.pan_gains`, [left right]."""
    angle = (percent + 100) / 200 * math.pi / 2
    return math.sqrt(2) * torch.stack([torch.cos(angle), torch.sin(angle)])


def echoes(values: Values, passed: torch.Tensor, samples: int, sample_rate: int) -> torch.Tensor:
    """Complex responses [left/right bins] from the middle of the sound to the echoes alone.

    passed: response of their filter, [bins]."""
    name = "ping_pong_delay"
    line = _late(values[f"{name}.time_ms"], samples, sample_rate) * passed
    again = values[f"{name}.feedback"] * line
    odd = 10 ** (values[f"{name}.wet_db"] / 20) * line / (1 - again.square())
    even = again * odd
    pans = [pan_gains(values[f"{name}.{which}_pan_percent"])[:, None] for which in ("odd", "even")]
    return pans[0] * odd + pans[1] * even


def _late(time_ms: torch.Tensor, samples: int, sample_rate: int) -> torch.Tensor:
    """The response [bins] of coming later."""
    angle = _omega(samples) * (time_ms / -1000 * sample_rate)
    return torch.complex(torch.cos(angle), torch.sin(angle))


@functools.lru_cache(maxsize=4)  # excerpts of short takes are as long as these: as many lengths as takes
def _omega(samples: int) -> torch.Tensor:
    return torch.arange(samples // 2 + 1) * (2 * math.pi / samples)


def noise_bank(samples: int, sample_rate: int, noise: np.random.Generator) -> torch.Tensor:
    """Two channels of white noise in the bands of the part `reverb`: [bands 2 samples]."""
    spectrum = np.fft.rfft(noise.standard_normal((2, samples)))
    weights = band_weights(REVERB_BANDS_HZ, np.fft.rfftfreq(samples, 1 / sample_rate))
    return torch.from_numpy(np.fft.irfft(weights[:, None] * spectrum, n=samples).astype(np.float32))


def reverb(values: Values, bank: torch.Tensor, passed: torch.Tensor, samples: int, sample_rate: int) -> torch.Tensor:
    """Complex responses [left/right bins] from the middle of the sound to the reverb alone, whose noise is `bank`.

    passed: response of its filters, [bins]."""
    name = "reverb"
    seconds = torch.arange(bank.shape[-1]) / sample_rate
    t60_s = torch.stack([values[f"{name}.t60_{band}_s"] for band in ("low", "mid", "high")])
    decays = torch.exp(seconds * (-3 * math.log(10) / t60_s[:, None]))
    body = (bank * decays[:, None]).sum(dim=0)
    left, other = body / body.square().sum(dim=-1, keepdim=True).sqrt()
    correlation = values[f"{name}.correlation"]
    both = torch.stack([left, correlation * left + torch.sqrt(1 - correlation**2) * other])
    level = 10 ** (values[f"{name}.wet_db"] / 20)
    late = _late(values[f"{name}.pre_delay_ms"], samples, sample_rate) * passed
    return spectra(F.pad(level * both, (0, samples - bank.shape[-1]))) * late


def equalise(values: Values, heard: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """Spectra [channels bins] → signals [channels samples], round the end."""
    tone = response(values, TONE, turns(RINGING_SAMPLES), sample_rate)[None]
    return signals(heard * _finely(tone, 2 * heard.shape[1] - 2))


def chain(values: Values, heard: torch.Tensor, bank: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """Spectra of a take [1 or 2 channels, bins] → mix [2 samples]; an even number of samples.

    What is linear goes round the end: the mix is that of the whole from where the longest response has died away.
    """
    samples = 2 * heard.shape[1] - 2
    direct = compressor(values, equalise(values, heard, sample_rate), sample_rate)
    if len(direct) == 2:
        middle, side = direct.mean(dim=0), (direct[0] - direct[1]) / 2 * values["width.width_percent"] / 100
        direct = torch.stack([middle + side, middle - side])
    direct = pan_gains(values["pan.pan_percent"])[:, None] * direct
    passed = torch.stack([response(values, which, turns(RINGING_SAMPLES), sample_rate) for which in (ECHO, ROOM)])
    passed = _finely(passed, samples)
    repeated = echoes(values, passed[0], samples, sample_rate)
    wet = repeated + reverb(values, bank, passed[1], samples, sample_rate) * (1 + repeated.mean(dim=0))
    return direct + signals(wet * spectra(direct.mean(dim=0, keepdim=True)))
