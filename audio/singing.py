"""A small singing synthesiser: glottal pulses through moving formants, with breath and consonants.

It gives the demo take, the tests and small trainings a voice that everyone may use. No sample of any real voice is in
it; every random choice comes from the generator that the caller hands over.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch

from audio.articulation import Gesture, articulate
from audio.errors import InputError
from audio.glottis import cycle_noise, glottal_phase, glottal_source, slow_noise
from audio.score import VOICES, Note, Rest, Voice, random_phrase
from audio.vocal_tract import consonant_noise, filter_moving
from audio.waveform import Waveform

__all__ = ["VOICES", "Note", "Rest", "Voice", "demo_take", "random_phrase", "sing"]

CONTROL_HOP_S = 0.005
LOWEST_SAMPLE_RATE = 16_000
LEVEL_GLIDE_S, FORMANT_GLIDE_S, VIBRATO_GLIDE_S = 0.035, 0.08, 0.25
DRIFT_HZ = 2.0
VIBRATO_RATE_DRIFT, VIBRATO_EXTENT_DRIFT = 0.03, 0.1  # standard deviations, as fractions
BREATH_PULSATION = 0.7  # how much of the breath noise comes and goes with the glottis while the folds swing


def sing(notes: Sequence[Note | Rest], voice: Voice, *, sample_rate: int, generator: np.random.Generator) -> Waveform:
    """Sing notes one after the other; notes without a rest between them are tied.

    Returns a mono waveform as long as the notes' durations together. Randomness (jitter, drift, noise) comes from the
    generator alone. Raises InputError for an empty score and for a sample rate below 16 kHz.
    """
    if not notes:
        raise InputError("there is nothing to sing: at least one note or rest is needed")
    if sample_rate < LOWEST_SAMPLE_RATE:
        raise InputError(f"singing needs a sample rate of at least {LOWEST_SAMPLE_RATE} Hz, not {sample_rate} Hz")
    gesture = articulate(notes, voice, sample_rate=sample_rate)
    samples = round(sum(note.duration_s for note in notes) * sample_rate)
    hop = round(CONTROL_HOP_S * sample_rate)
    frames = -(-samples // hop) + 1
    frame_rate_hz = sample_rate / hop
    controls = _Controls(gesture, frames, frame_rate_hz)

    f0_hz = _pitch(controls, voice, generator)
    shimmer = 1 + voice.shimmer * cycle_noise(f0_hz, frame_rate_hz=frame_rate_hz, generator=generator)
    voicing = controls.glide("voicing", LEVEL_GLIDE_S)
    phase = glottal_phase(f0_hz, hop_samples=hop, sample_rate=sample_rate)
    source = glottal_source(
        phase, f0_hz, voicing * shimmer, np.full(frames, voice.open_quotient),
        controls.glide("return_hz", LEVEL_GLIDE_S), hop_samples=hop, sample_rate=sample_rate,
    )  # fmt: skip

    position = np.arange(len(phase)) / hop
    swinging = np.interp(position, np.arange(frames), voicing / (voicing + 1e-9))
    pulsation = 1 + BREATH_PULSATION * swinging * np.cos(phase - 2 * np.pi * voice.open_quotient)
    breath = np.interp(position, np.arange(frames), controls.glide("breath", LEVEL_GLIDE_S))
    source += breath * pulsation / np.sqrt(1 + BREATH_PULSATION**2 / 2) * generator.standard_normal(len(phase))

    output = filter_moving(
        source, controls.glide("formants_hz", FORMANT_GLIDE_S), voice.register, voice.formant_scale,
        hop_samples=hop, sample_rate=sample_rate,
    )  # fmt: skip
    for burst in gesture.bursts:
        noise = consonant_noise(burst.kind, burst.duration_s, sample_rate=sample_rate, generator=generator)
        start = round(burst.start_s * sample_rate)
        output[start : start + len(noise)] += burst.level * noise[: len(output) - start]
    return Waveform(torch.from_numpy(output[:samples].astype(np.float32))[None], sample_rate)


class _Controls:
    """A gesture's targets on the grid of control frames."""

    def __init__(self, gesture: Gesture, frames: int, frame_rate_hz: float) -> None:
        ends_s = list(accumulate(segment.duration_s for segment in gesture.segments))
        self._segments = gesture.segments
        self._which = np.minimum(
            np.searchsorted(ends_s, np.arange(frames) / frame_rate_hz, side="right"), len(gesture.segments) - 1
        )
        self.frames, self.frame_rate_hz = frames, frame_rate_hz

    def glide(self, name: str, seconds: float) -> np.ndarray:
        """The targets called `name`, each step between them turned into a smooth glide that lasts `seconds`."""
        targets = np.array([getattr(segment, name) for segment in self._segments], dtype=np.float64)[self._which]
        half = max(1, round(seconds * self.frame_rate_hz / 2))
        kernel = np.hanning(2 * half + 1)[1:-1]
        kernel /= kernel.sum()
        columns = targets.reshape(self.frames, -1).T
        smooth = [np.convolve(np.pad(column, half - 1, mode="edge"), kernel, mode="valid") for column in columns]
        return np.stack(smooth, axis=-1).reshape(targets.shape)


def _pitch(controls: _Controls, voice: Voice, generator: np.random.Generator) -> np.ndarray:
    """f0 in Hz at the control frames: glides, vibrato, drift and jitter."""
    frames, rate = controls.frames, controls.frame_rate_hz

    def wander() -> np.ndarray:
        return slow_noise(frames, rate_hz=DRIFT_HZ, frame_rate_hz=rate, generator=generator)

    speed_hz = voice.vibrato_rate_hz * (1 + VIBRATO_RATE_DRIFT * wander())
    extent_cents = controls.glide("vibrato_cents", VIBRATO_GLIDE_S) * (1 + VIBRATO_EXTENT_DRIFT * wander())
    vibrato_cents = extent_cents * np.sin(2 * np.pi * np.cumsum(speed_hz) / rate)
    cents = 100 * controls.glide("midi", voice.portamento_s) + vibrato_cents + voice.drift_cents * wander()
    f0_hz = 440 * 2 ** ((cents - 6900) / 1200)
    return f0_hz * (1 + voice.jitter * cycle_noise(f0_hz, frame_rate_hz=rate, generator=generator))


def demo_take(sample_rate: int = 48_000) -> Waveform:
    """About eleven seconds of a little tune, sung dry by one voice; always the same."""
    beat_s = 0.48
    tune: list[list[tuple[int, float, str]]] = [
        [(62, 1, "lai"), (66, 1, "so"), (69, 2, "na"), (71, 1, "shi"), (69, 1, "ta"), (66, 2, "men")],
        [(67, 1, "ho"), (66, 1, "li"), (64, 1, "fa"), (62, 1, "ko"), (64, 1.5, "su"), (66, 0.5, "pe"), (62, 4, "la")],
    ]
    score: list[Note | Rest] = [Rest(0.5, inhale=True)]
    for index, phrase in enumerate(tune):
        for place, (midi, beats, syllable) in enumerate(phrase):
            swell_db = 4 * np.sin(np.pi * (place + 0.5) / len(phrase))
            score.append(Note(midi, beats * beat_s, syllable, -24.0 + index + float(swell_db)))
        score.append(Rest(0.7, inhale=index == 0))
    return sing(score, VOICES["alto"], sample_rate=sample_rate, generator=np.random.default_rng(1957))
