"""Which seconds of a song are heard, and what is done to them: cut, faded, brought to one loudness."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from audio.activity import STEP_S, active
from audio.errors import InputError
from audio.loudness import ROUNDING_DB, gain_to, integrated_loudness_lufs, true_peak_db
from audio.waveform import Waveform
from restyler.command import shown

FADE_S = 0.005  # raised cosine (BS.1534-3, 5.5)
CEILING_DBTP = -1.0  # true peak of what is heard


@dataclass(frozen=True)
class Sound:
    """One excerpt as it is heard. gain_db: the one gain between its source and it."""

    waveform: Waveform
    gain_db: float
    loudness_lufs: float


def active_starts(take: Waveform, duration_s: float, count: int) -> list[float]:
    """Where the `count` most active stretches of duration_s begin, in seconds, in the order of time, without overlap.

    Most active: with the most 50 ms steps in which the voice sounds (`audio.activity`), then the loudest. A take
    that is no longer than duration_s has one stretch, from 0. Raises InputError where there is no room for as many, or
    one of them would hold no active step.
    """
    step = round(STEP_S * take.sample_rate)
    steps = take.samples.shape[1] // step
    width = math.ceil(duration_s / STEP_S)
    if steps <= width and count == 1:
        return [0.0]
    power = take.samples[:, : steps * step].double().square().mean(dim=0).reshape(steps, step).mean(dim=1).numpy()
    with np.errstate(divide="ignore"):
        sounds = active(10 * np.log10(power))
    # Energy decides between equal counts only: its share of the whole is below 1.
    worth = _sums(sounds.astype(np.float64) + 0.5 * power / max(float(power.sum()), 1e-30), width)
    found: list[int] = []
    for _ in range(count):
        if not np.isfinite(worth).any():
            raise InputError(f"{take.duration_s:.1f} s hold no {count} excerpts of {duration_s:g} s; ask for fewer")
        best = int(worth.argmax())
        if worth[best] < 1:
            raise InputError(f"no {count} stretches of {duration_s:g} s in which something sounds; ask for fewer")
        found.append(best)
        worth[max(0, best - width + 1) : best + width] = -np.inf
    return [place * STEP_S for place in sorted(found)]


def _sums(values: np.ndarray, width: int) -> np.ndarray:
    """Of every `width` values in a row."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    return total[width:] - total[:-width] if len(values) >= width else np.full(1, -np.inf)


def cut(waveform: Waveform, start_s: float, duration_s: float) -> Waveform:
    """A stretch with a raised-cosine fade of 5 ms at either end, shorter where the waveform ends."""
    rate = waveform.sample_rate
    start = round(start_s * rate)
    samples = waveform.samples[:, start : start + round(duration_s * rate)].clone()
    fade = min(round(FADE_S * rate), samples.shape[1] // 2)
    ramp = 0.5 - 0.5 * torch.cos(torch.pi * (torch.arange(fade) + 0.5) / fade)
    samples[:, :fade] *= ramp
    samples[:, samples.shape[1] - fade :] *= ramp.flip(0)
    return Waveform(samples, rate)


def levelled(
    excerpts: Mapping[str, Waveform], loudness_lufs: float, *, follows: Mapping[str, str], where: str
) -> dict[str, Sound]:
    """Every excerpt of an item by one gain of its own to one loudness.

    follows: sounds that get the gain of another instead: an anchor is the reference, low-passed and nothing else. Where
    a true peak would pass −1 dBTP, all of them are lowered together, so that they stay equally loud.

    where: names item and place in errors. Raises InputError for an excerpt below −70 LUFS.
    """
    gains: dict[str, float] = {}
    for name, excerpt in excerpts.items():
        if name not in follows:
            try:
                gains[name] = gain_to(excerpt, loudness_lufs)
            except InputError as error:
                raise InputError(f"«{shown(name)}» of {where}: {error}") from None
    gains |= {name: gains[leader] for name, leader in follows.items()}
    peak_db = max(true_peak_db(excerpt) + 20 * math.log10(gains[name]) for name, excerpt in excerpts.items())
    lowered = 10 ** (min(0.0, CEILING_DBTP - ROUNDING_DB - peak_db) / 20)
    found = {}
    for name, excerpt in excerpts.items():
        gain = gains[name] * lowered
        sound = Waveform(excerpt.samples * gain, excerpt.sample_rate)
        found[name] = Sound(sound, 20 * math.log10(gain), integrated_loudness_lufs(sound))
    return found
