"""An effect chain of the project's own parts, fitted to a mix by gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from audio.loudness import gain_to
from audio.parts import Step, find_part
from audio.waveform import Waveform
from restyler.transfer.devices import chain, noise_bank
from restyler.transfer.distance import Target
from restyler.transfer.excerpts import CONTEXT_S, excerpts
from restyler.transfer.fourier import spectra
from restyler.transfer.knobs import CHAIN, places, values
from restyler.transfer.start import first_guess

HEARD_LUFS = -18.0 + 10 * math.log10(2)  # a chain hears a take at this loudness (docs/chains.md)
LOWEST_RATE_HZ = 44100
STEPS = 60
RATE, LAST_RATE = 0.2, 0.02
NOISES = 4  # of the reverb: the fit must not learn one by heart
DIGITS = 4
# A value of a part, and up to where the part does nothing that is heard; such a part is left out.
IDLE = {
    "high_pass": ("frequency_hz", 0.0, 22.0),
    "low_pass": ("frequency_hz", 19500.0, math.inf),
    "width": ("width_percent", 99.0, 101.0),
    "pan": ("pan_percent", -1.0, 1.0),
    "ping_pong_delay": ("wet_db", -math.inf, -48.0),
    "reverb": ("wet_db", -math.inf, -52.0),
}
IDLE_GAIN_DB = 0.3


def fit_chain(
    take: Waveform, target: Waveform, *, seed: int = 0, steps: int = STEPS, progress: Callable[[], None] | None = None
) -> tuple[Step, ...]:
    """The chain that makes of `take` what comes nearest to `target`, every value fixed.

    take: mono or stereo; target: stereo, as long and at the same rate, at least 44.1 kHz, in place to a few ms. Both
    are heard at the loudness at which chains hear takes. The time it takes does not grow with the length. seed: of
    the reverb's noise, here and in the chain. progress: called after each of the `steps`.
    Equaliser, compressor, width (of a stereo take), pan, ping-pong delay and reverb, those that do something. The
    descent is Adam's on the distance of `restyler.transfer.distance`, from where `restyler.transfer.start` begins.
    Raises ValueError for signals that don't belong together, InputError for silent ones.
    """
    rate = take.sample_rate
    if rate != target.sample_rate or rate < LOWEST_RATE_HZ or take.samples.shape[1] != target.samples.shape[1]:
        raise ValueError(f"a take and a mix of one length and one rate of at least {LOWEST_RATE_HZ} Hz are needed")
    wet = target.stereo()
    channels = 1 if torch.equal(take.samples[0], take.samples[-1]) else 2
    gains = [gain_to(each, HEARD_LUFS) for each in (take, wet)]
    pieces = [piece.louder(*gains) for piece in excerpts(take.samples[:channels], wet.samples, rate)]
    heard = np.concatenate([piece.take.numpy()[:, piece.context :] for piece in pieces], axis=1)
    asked = np.concatenate([piece.mix.numpy() for piece in pieces], axis=1)
    at = places(first_guess(heard.astype(np.float64), asked.astype(np.float64), rate)).requires_grad_()
    takes = [spectra(piece.take) for piece in pieces]
    targets = [Target(piece.mix, rate) for piece in pieces]
    noise = np.random.default_rng(seed)
    banks = [noise_bank(round(CONTEXT_S * rate), rate, noise) for _ in range(NOISES)]
    optimiser = torch.optim.Adam([at], betas=(0.8, 0.95))
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = LAST_RATE + (RATE - LAST_RATE) * (1 + math.cos(math.pi * step / steps)) / 2
        place = step % len(pieces)
        optimiser.zero_grad()
        out = chain(values(at), takes[place], banks[step % NOISES], rate)
        targets[place].distance(out[:, pieces[place].context :]).backward()
        optimiser.step()
        if progress is not None:
            progress()
    return as_steps({name: value.item() for name, value in values(at).items()}, stereo=channels == 2, seed=seed)


def as_steps(found: dict[str, float], *, stereo: bool, seed: int) -> tuple[Step, ...]:
    """Values of all knobs → the chain, in numbers that can be read, without the parts that do nothing."""
    steps = []
    for name, part in CHAIN.items():
        told = {knob.split(".")[1]: float(f"{value:.{DIGITS}g}") for knob, value in found.items() if _is_of(knob, name)}
        if _is_idle(part, told) or (part == "width" and not stereo):
            continue
        if part == "reverb":
            told["seed"] = seed
        steps.append(Step(part, find_part(part).checked(told)))
    return tuple(steps)


def _is_of(knob: str, part: str) -> bool:
    return knob.split(".")[0] == part


def _is_idle(part: str, told: dict[str, float]) -> bool:
    if part in IDLE:
        name, low, high = IDLE[part]
        return low <= told[name] <= high
    return abs(told.get("gain_db", math.inf)) < IDLE_GAIN_DB
