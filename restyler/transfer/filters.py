"""The second-order filters of the fitted chain, all at once, as functions that gradients go through."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import torch

from audio.parts_builtin import FLAT_Q
from restyler.transfer.knobs import PEAKS, Values

# Kind → names of frequencies in KNOBS. Of each filter q and gain have the same name before the dot.
TONE = {
    "peak": tuple(f"{peak}.frequency_hz" for peak in PEAKS),
    "low_shelf": ("low_shelf.frequency_hz",),
    "high_shelf": ("high_shelf.frequency_hz",),
    "low_pass": ("low_pass.frequency_hz",),
    "high_pass": ("high_pass.frequency_hz",),
}
ECHO = {"low_pass": ("ping_pong_delay.low_pass_hz",)}
ROOM = {"low_pass": ("reverb.low_pass_hz",), "high_pass": ("reverb.high_pass_hz",)}


def coefficients(
    kind: str, frequency_hz: torch.Tensor, q: torch.Tensor | float, gain_db: torch.Tensor | None, sample_rate: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """b and a of `audio.filters.Filter`, each [filters 3]; the same Cookbook formulae.

    frequency_hz: [filters], as are q, and gain_db of peaks and shelves; other kinds have none."""
    omega = 2 * math.pi * frequency_hz / sample_rate
    cosine, alpha = torch.cos(omega), torch.sin(omega) / (2 * q)
    if gain_db is None:
        sign = 1 if kind == "low_pass" else -1
        edge = 1 - sign * cosine
        b, a = (edge / 2, sign * edge, edge / 2), (1 + alpha, -2 * cosine, 1 - alpha)
        return torch.stack(b, dim=1), torch.stack(a, dim=1)
    amplitude = 10 ** (gain_db / 40)
    if kind == "peak":
        up, down = alpha * amplitude, alpha / amplitude
        b, a = (1 + up, -2 * cosine, 1 - up), (1 + down, -2 * cosine, 1 - down)
    else:
        mirror = 1 if kind == "low_shelf" else -1
        plus, minus, slope = amplitude + 1, (amplitude - 1) * mirror * cosine, 2 * amplitude.sqrt() * alpha
        b = (
            amplitude * (plus - minus + slope),
            2 * amplitude * mirror * (amplitude - 1 - plus * mirror * cosine),
            amplitude * (plus - minus - slope),
        )
        a = (plus + minus + slope, -2 * mirror * (amplitude - 1 + plus * mirror * cosine), plus + minus - slope)
    return torch.stack(b, dim=1), torch.stack(a, dim=1)


def response(
    values: Values, which: Mapping[str, tuple[str, ...]], turn: torch.Tensor, sample_rate: int
) -> torch.Tensor:
    """Complex response [bins] of filters in series at turn = e^(−iω), [bins]."""
    found = []
    for kind, names in which.items():
        parts = [name.split(".")[0] for name in names]
        gain_db = None if kind.endswith("_pass") else torch.stack([values[f"{part}.gain_db"] for part in parts])
        q = torch.stack([values[f"{part}.q"] for part in parts]) if kind == "peak" else FLAT_Q
        frequency_hz = torch.stack([values[name] for name in names])
        found.append(coefficients(kind, frequency_hz, q, gain_db, sample_rate))
    b, a = (torch.cat(each) for each in zip(*found, strict=True))
    each = _at(b, turn) / _at(a, turn)
    while len(each) > 1:  # torch.prod has a slow gradient
        half = len(each) // 2
        each = torch.cat([each[:half] * each[half : 2 * half], each[2 * half :]])
    return each[0]


def _at(polynomials: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Values of polynomials of second order [filters 3] at [bins]: [filters bins]."""
    return polynomials.to(turn.dtype) @ torch.stack([torch.ones_like(turn), turn, turn**2])


@functools.cache
def turns(samples: int) -> torch.Tensor:
    """e^(−iω) at the bins of a real transform of an even number of samples."""
    return torch.exp(-2j * torch.pi * torch.arange(samples // 2 + 1) / samples)
