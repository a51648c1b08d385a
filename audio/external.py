"""Parts that another program runs: FFmpeg's filters, SoX's effects, LADSPA and LV2 plugins.

All of them are aligned to the sample and as long as what they are given; docs/rack.md says how their latency is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache, partial

import numpy as np

from audio.errors import InputError
from audio.external_ffmpeg import ffmpeg_filter
from audio.external_kinds import External
from audio.external_plugins import ladspa_plugin, lv2_plugin
from audio.external_process import Pipe
from audio.external_sox import sox_effect
from audio.parts_kinds import Part, Value

# Kind → the keys that name what is meant, the first of which must be given.
EXTERNAL: dict[str, tuple[str, ...]] = {
    "ffmpeg": ("filter",),
    "sox": ("effect",),
    "ladspa": ("path", "plugin"),
    "lv2": ("uri",),
}
BLOCK_FRAMES = 1 << 16
IMPULSE = 0.25
BEFORE_S, AFTER_S = 0.25, 1.0  # of silence around the impulse: no latency that we know is longer
FAINT = 1e-9  # what is no answer
LIKE = 0.5  # correlation from which on a place is believed

Values = Mapping[str, Value]


@cache
def external(kind: str, named: str | None, path: str | None) -> External:
    """named: the filter, effect, plugin or URI. path: of a LADSPA library, else None.

    Raises InputError for a program or plugin that is missing or can't be used, ValueError for an unknown name.
    """
    if kind == "ladspa":
        if path is None:
            raise ValueError("a LADSPA plugin has a path")
        return ladspa_plugin(path, named)
    if named is None:
        raise ValueError(f"{kind} needs {EXTERNAL[kind][0]}")
    return {"ffmpeg": ffmpeg_filter, "sox": sox_effect, "lv2": lv2_plugin}[kind](named)


def external_part(kind: str, named: str | None, path: str | None) -> Part:
    """What `external` declares, as a part. Raises what that does."""
    found = external(kind, named, path)
    run = partial(process_by_program, kind, named, path)
    return Part(found.name, found.what, found.parameters, run, found.fills_in)


def process_by_program(
    kind: str, named: str | None, path: str | None, values: Values, samples: np.ndarray, sample_rate: int
) -> np.ndarray:
    """[2 samples] → [2 samples]. Raises InputError where the program fails or what it gives can't be used."""
    stage = ProgramStage(kind, named, path, values, sample_rate)
    try:
        starts = range(0, samples.shape[1], BLOCK_FRAMES)
        blocks = [stage.feed(samples[:, start : start + BLOCK_FRAMES]) for start in starts]
        return np.concatenate([*blocks, stage.finish()], axis=1)
    finally:
        stage.close()


class _Raw:
    """The running program as it is: its latency is in the sound. A plugin for mono runs once for each side."""

    def __init__(self, found: External, values: Values, sample_rate: int) -> None:
        self._found, self._name = found, found.name
        count = 2 if (found.channels, found.outputs) == (1, 1) else 1
        self._pipes: list[Pipe] = []
        self._held: list[np.ndarray] = []
        try:
            for _ in range(count):
                command = found.command(values, sample_rate)
                pipe = Pipe(command, name=found.name, channels=found.channels, outputs=found.outputs)
                self._pipes.append(pipe)
                self._held.append(np.zeros((found.outputs, 0), np.float32))
        except BaseException:
            self.close()
            raise

    def feed(self, samples: np.ndarray) -> np.ndarray:
        return self._joined([pipe.feed(side) for pipe, side in zip(self._pipes, self._sides(samples), strict=True)])

    def finish(self) -> np.ndarray:
        found = self._joined([pipe.finish() for pipe in self._pipes])
        if any(held.shape[1] for held in self._held):
            raise InputError(f"{self._name}: gives sides of different lengths")
        return found

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()

    def _sides(self, samples: np.ndarray) -> list[np.ndarray]:
        if self._found.channels == 2:
            return [samples]
        if self._found.outputs == 2:
            return [samples.mean(axis=0, keepdims=True)]
        return [samples[:1], samples[1:]]

    def _joined(self, came: list[np.ndarray]) -> np.ndarray:
        every = [np.concatenate(pair, axis=1) for pair in zip(self._held, came, strict=True)]
        ready = min(each.shape[1] for each in every)
        self._held = [each[:, ready:] for each in every]
        return np.concatenate([each[:, :ready] for each in every]).astype(np.float64)


class ProgramStage:
    """A running program whose latency is taken off: gives in all exactly as many frames as it is fed.

    Raises InputError in `feed` or `finish` where the program fails, or changes rate, channels or length.
    """

    def __init__(self, kind: str, named: str | None, path: str | None, values: Values, sample_rate: int) -> None:
        values = external_part(kind, named, path).checked(values)
        self._found = external(kind, named, path)
        late = latency_samples(kind, named, path, tuple(values.items()), sample_rate)
        self._late = late or 0
        self._raw = _Raw(self._found, values, sample_rate)
        self._fed = self._came = self._given = 0

    def feed(self, samples: np.ndarray) -> np.ndarray:
        self._fed += samples.shape[1]
        return self._aligned(self._raw.feed(samples))

    def finish(self) -> np.ndarray:
        silence = self._raw.feed(np.zeros((2, self._late)))
        last = self._aligned(np.concatenate([silence, self._raw.finish()], axis=1))
        _require_length(self._found, fed=self._fed + self._late, came=self._came)
        return last

    def close(self) -> None:
        self._raw.close()

    def _aligned(self, came: np.ndarray) -> np.ndarray:
        begins = max(0, self._late - self._came)
        self._came += came.shape[1]
        found = came[:, begins:][:, : self._fed - self._given]
        self._given += found.shape[1]
        return found


def _require_length(found: External, *, fed: int, came: int) -> None:
    if came < fed or (came > fed and not found.may_ring):
        raise InputError(
            f"{found.name}: gives {came} frames of {found.outputs} channels for {fed}: "
            "a part may change neither rate, channels nor length"
        )


@lru_cache(maxsize=256)
def latency_samples(
    kind: str, named: str | None, path: str | None, values: tuple[tuple[str, Value], ...], sample_rate: int
) -> int | None:
    """By how much the sound comes late at these values: measured by an impulse, where `External.latency` says so.

    Measured is the answer to an impulse without what the part says to silence. None: it can't be known, since the part
    keeps the impulse for itself. Raises InputError where the program refuses the values, fails, or changes the length.
    """
    found = external(kind, named, path)
    before, frames = round(BEFORE_S * sample_rate), round((BEFORE_S + AFTER_S) * sample_rate)
    impulse = np.zeros((2, frames))
    impulse[:, before] = IMPULSE
    heard = _whole(found, dict(values), impulse, sample_rate)
    if found.latency == "none":
        return 0
    answer = np.abs(heard - _whole(found, dict(values), np.zeros_like(impulse), sample_rate)).max(axis=0)
    sounding = np.flatnonzero(answer > FAINT)
    if not len(sounding):
        return _latency_of_noise(found, dict(values), sample_rate)
    begins, highest = int(sounding[0]) - before, int(answer.argmax()) - before
    # What begins before the impulse has its own latency taken off already, or rings ahead of its peak.
    return max(0, highest if found.latency == "peak" or begins < 0 else begins)


def _latency_of_noise(found: External, values: Values, sample_rate: int) -> int | None:
    """For a part that keeps single impulses for itself, as what takes away clicks does: by correlation with noise."""
    frames = round(AFTER_S * sample_rate)
    noise = np.zeros(frames)
    noise[: frames // 2] = IMPULSE / 4 * np.random.default_rng(0).standard_normal(frames // 2)
    heard = _whole(found, values, np.stack([noise, noise]), sample_rate).mean(axis=0)
    spectra = [np.fft.rfft(each, 2 * frames) for each in (heard, noise)]
    likeness = np.fft.irfft(spectra[0] * np.conj(spectra[1]))[:frames]
    power = float(np.sqrt((heard**2).sum() * (noise**2).sum()))
    return int(likeness.argmax()) if power > 0 and likeness.max() > LIKE * power else None


def _whole(found: External, values: Values, samples: np.ndarray, sample_rate: int) -> np.ndarray:
    raw = _Raw(found, values, sample_rate)
    try:
        came = np.concatenate([raw.feed(samples), raw.finish()], axis=1)
    finally:
        raw.close()
    _require_length(found, fed=samples.shape[1], came=came.shape[1])
    return came[:, : samples.shape[1]]
