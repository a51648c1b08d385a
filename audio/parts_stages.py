"""A chain as a stream: each part as a stage, and whole files through all of them in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import pedalboard
import torch

from audio.effects import Compressor, EffectChain, compressor_board
from audio.errors import InputError
from audio.external import ProgramStage
from audio.filters import Filter, sections
from audio.parts import ProgramStep, Step, find_part
from audio.parts_builtin import delay, freeverb, gate, ping_pong_delay, read_impulse_response, room
from audio.parts_kinds import Value, decibels
from audio.parts_plugin import plugin_stage
from audio.parts_vocal_chain import chain_of
from audio.reverb import Reverb, impulse_responses
from audio.stages import Beside, Convolver, Echoes, Instant, Stage, WetOnly, board, filtered, nothing, pan_gains
from audio.waveform import Waveform

BLOCK_FRAMES = 1 << 16  # a multiple of Pedalboard's own blocks, so that plugins hear what they would hear of the whole

Values = Mapping[str, Any]
MIDDLE_AND_SIDE = np.array([[0.5, 0.5], [0.5, -0.5]])


def stream(
    steps: Sequence[Step],
    blocks: Iterable[Waveform],
    sample_rate: int,
    *,
    tail_s: float = 0.0,
    wet_only: bool = False,
) -> Iterator[Waveform]:
    """What `audio.parts.render` gives of the whole, and of tail_s of silence after it, in blocks and bounded memory.

    blocks: mono or stereo, in order, all at `sample_rate`. wet_only: without the dry sound that the parts of DRY leave
    beside what they make. Raises what `render` does, as soon as it shows.
    """
    with ExitStack() as stack:
        even = []
        for step in steps:
            stage = stage_of(step, sample_rate)
            stack.callback(stage.close)
            if wet_only and step.path is None and step.name in DRY:
                stage = WetOnly(stage, DRY[step.name](find_part(step.name).checked(step.values)))
            even.append(_Even(stage))
        for samples in _fed(blocks, round(tail_s * sample_rate)):
            for each in even:
                samples = each.feed(samples)
            yield from _waveforms(samples, sample_rate)
        for at, each in enumerate(even):
            samples = each.finish()
            for later in even[at + 1 :]:
                samples = later.feed(samples)
            yield from _waveforms(samples, sample_rate)


def _fed(blocks: Iterable[Waveform], tail_samples: int) -> Iterator[np.ndarray]:
    for block in blocks:
        yield block.stereo().samples.numpy().astype(np.float64)
    for start in range(0, tail_samples, BLOCK_FRAMES):
        yield np.zeros((2, min(BLOCK_FRAMES, tail_samples - start)))


def _waveforms(samples: np.ndarray, sample_rate: int) -> Iterator[Waveform]:
    if samples.shape[1]:
        yield Waveform(torch.from_numpy(samples.astype(np.float32)), sample_rate)


class _Even:
    """Feeds a stage blocks of one length, whatever comes: what a program has answered by now hangs on its haste, and
    some plugins hear where blocks end."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._waiting = nothing()

    def feed(self, samples: np.ndarray) -> np.ndarray:
        self._waiting = np.concatenate([self._waiting, samples], axis=1)
        found = [nothing()]
        while self._waiting.shape[1] >= BLOCK_FRAMES:
            found.append(self._stage.feed(self._waiting[:, :BLOCK_FRAMES]))
            self._waiting = self._waiting[:, BLOCK_FRAMES:]
        return np.concatenate(found, axis=1)

    def finish(self) -> np.ndarray:
        return np.concatenate([self._stage.feed(self._waiting), self._stage.finish()], axis=1)


def stage_of(step: Step, sample_rate: int) -> Stage:
    """Raises InputError for values that the part doesn't allow, and a file or program that can't be used."""
    if isinstance(step, ProgramStep):
        return ProgramStage(step.name, step.named, step.path, step.values, sample_rate)
    if step.path is not None:
        return plugin_stage(step.path, step.values, sample_rate)
    part = find_part(step.name)
    try:
        values: Mapping[str, Value] = part.checked(step.values)
        if step.name in STAGES:
            return STAGES[step.name](values, sample_rate)
    except InputError:
        raise
    except ValueError as error:  # of a filter beyond half the sample rate, say
        raise InputError(f"{step.name}: {error}") from None
    return Instant(lambda samples: part.process(values, samples, sample_rate))  # gain, pan, width: no memory


def _filter(kind: Any, values: Values, sample_rate: int) -> Stage:
    band = Filter(kind, values["frequency_hz"], values["q"], values.get("gain_db", 0.0))
    return filtered(sections((band,), sample_rate))


def _board(make: Callable[..., Any], values: Values, sample_rate: int) -> Stage:
    return board(make(**values), sample_rate)


def _ping_pong_delay(values: Values, sample_rate: int) -> Stage:
    echoes = Echoes(ping_pong_delay(values), sample_rate)
    return Instant(lambda samples: samples + echoes.feed(samples.mean(axis=0)))


class _Convolution:
    """The sound times dry, with what the responses [2 2 samples], of its two sides, make of it beside."""

    def __init__(self, responses: np.ndarray, dry: float) -> None:
        self._dry, self._beside = dry, Beside(Convolver(responses))

    def feed(self, samples: np.ndarray) -> np.ndarray:
        return self._beside.feed(self._dry * samples, samples)

    def finish(self) -> np.ndarray:
        return self._beside.finish()

    def close(self) -> None:
        pass


def _responses(reverb: Reverb, seed: int, sample_rate: int) -> np.ndarray:
    """From left and right to left and right, of the whole decay."""
    pre_delay = round(reverb.pre_delay_ms / 1000 * sample_rate)
    whole = pre_delay + max(2, round(max(reverb.t60_s) * sample_rate))
    found = impulse_responses(reverb, whole, sample_rate, np.random.default_rng(seed))
    return np.einsum("oit,ic->oct", found, MIDDLE_AND_SIDE)


def _reverb(values: Values, sample_rate: int) -> Stage:
    return _Convolution(_responses(room(values), values["seed"], sample_rate), 1.0)


def _convolution(values: Values, sample_rate: int) -> Stage:
    response = read_impulse_response(values["impulse_response"], sample_rate)
    left, right = response[0], response[-1]
    silent = np.zeros_like(left)
    sides = np.array([[left, silent], [silent, right]]) * decibels(values["wet_db"])
    pre_delay = round(values["pre_delay_ms"] / 1000 * sample_rate)
    return _Convolution(np.pad(sides, ((0, 0), (0, 0), (pre_delay, 0))), decibels(values["dry_db"]))


# By how much the dry sound is in what a part gives; the others have none, or say how much by a parameter of their own.
DRY: dict[str, Callable[[Values], float]] = {
    "reverb": lambda _: 1.0,
    "freeverb": lambda _: 1.0,
    "ping_pong_delay": lambda _: 1.0,
    "convolution": lambda values: decibels(values["dry_db"]),
}


class _VocalChain:
    """`audio.effects.render` of a chain for a sound that comes in blocks."""

    def __init__(self, chain: EffectChain, seed: int, sample_rate: int) -> None:
        self._chain = chain
        self._equaliser = filtered(sections(chain.equaliser, sample_rate))
        self._compressor = board(compressor_board(chain.compressor), sample_rate)
        self._echoes = Echoes(chain.delay, sample_rate)
        self._beside = Beside(Convolver(_responses(chain.reverb, seed, sample_rate)))

    def feed(self, samples: np.ndarray) -> np.ndarray:
        direct = self._compressor.feed(self._equaliser.feed(samples))
        delayed = self._echoes.feed(direct.mean(axis=0))
        dry = pan_gains(self._chain.dry_pan_percent)[:, None] * direct + delayed
        return self._beside.feed(dry, direct + self._chain.delay_to_reverb * delayed)

    def finish(self) -> np.ndarray:
        return self._beside.finish()

    def close(self) -> None:
        pass


STAGES: dict[str, Callable[[Values, int], Stage]] = {
    **{kind: partial(_filter, kind) for kind in ("high_pass", "low_pass", "peak", "low_shelf", "high_shelf")},
    "compressor": lambda values, rate: board(compressor_board(Compressor(**values)), rate),
    "gate": partial(_board, gate),
    "saturation": partial(_board, pedalboard.Distortion),
    "chorus": partial(_board, pedalboard.Chorus),
    "delay": partial(_board, delay),
    "ping_pong_delay": _ping_pong_delay,
    "reverb": _reverb,
    "freeverb": partial(_board, freeverb),
    "convolution": _convolution,
    "vocal_chain": lambda values, rate: _VocalChain(chain_of(values), values["seed"], rate),
}
