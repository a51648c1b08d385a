"""The built-in parts of effect chains: Pedalboard's, and the project's own filters, delay, reverb and convolution.

Times of compressor and gate are time constants (63 %), as in `audio.effects`. The filters are second-order, which
Pedalboard's high-pass and low-pass are not, so all five are those of `audio.filters`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pedalboard
from scipy.signal import oaconvolve

from audio import io
from audio.delay import PingPongDelay, echoes, pan_gains
from audio.effects import Compressor, compress
from audio.filters import Filter, FilterKind, equalise
from audio.parts_kinds import AudioFile, Number, Parameter, Part, Process, Seed, decibels
from audio.parts_vocal_chain import VOCAL_CHAIN
from audio.reverb import Reverb, reverberate
from audio.waveform import Waveform

FLAT_Q = 1 / math.sqrt(2)
REVERB_BANDS_HZ = (250.0, 1000.0, 4000.0)
ONSET_DB = -60.0  # against its peak: what an impulse response begins with
NO_LOW_PASS_HZ = 20000.0  # of the reverb: from here on there is none
FREEVERB_DRY = 0.5  # JUCE doubles the dry level

Values = Mapping[str, Any]


def _filter(kind: FilterKind, what: str) -> Part:
    def process(values: Values, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        band = Filter(kind, values["frequency_hz"], values["q"], values.get("gain_db", 0.0))
        return equalise((band,), samples, sample_rate)

    parameters: list[Parameter] = [Number("frequency_hz", "Hz", 10.0, 20000.0)]
    if kind not in ("low_pass", "high_pass"):
        parameters.append(Number("gain_db", "dB", -36.0, 36.0))
    return Part(kind, what, (*parameters, Number("q", "", 0.1, 20.0, FLAT_Q)), process)


def _by_pedalboard(make: Any) -> Process:
    """By what makes one of Pedalboard's effects of our parameters."""

    def process(values: Values, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        return make(**values)(samples.astype(np.float32), sample_rate).astype(np.float64)

    return process


def _gain(values: Values, samples: np.ndarray, sample_rate: int) -> np.ndarray:
    return samples * decibels(values["gain_db"])


def _compressor(values: Values, samples: np.ndarray, sample_rate: int) -> np.ndarray:
    return compress(Compressor(**values), samples, sample_rate)


def gate(**values: float) -> Any:
    """2π: see `audio.effects.compress`."""
    return pedalboard.NoiseGate(
        threshold_db=values["threshold_db"],
        ratio=values["ratio"],
        attack_ms=2 * math.pi * values["attack_ms"],
        release_ms=2 * math.pi * values["release_ms"],
    )


def _pan(values: Values, samples: np.ndarray, sample_rate: int) -> np.ndarray:
    return pan_gains(values["pan_percent"])[:, None] * samples


def _width(values: Values, samples: np.ndarray, sample_rate: int) -> np.ndarray:
    middle, side = (samples[0] + samples[1]) / 2, (samples[0] - samples[1]) / 2 * values["width_percent"] / 100
    return np.stack([middle + side, middle - side])


def delay(**values: float) -> Any:
    return pedalboard.Delay(values["time_ms"] / 1000, values["feedback"], values["mix"])


def ping_pong_delay(values: Values) -> PingPongDelay:
    return PingPongDelay(
        time_ms=values["time_ms"],
        feedback=values["feedback"],
        gain=decibels(values["wet_db"]),
        low_pass=Filter("low_pass", values["low_pass_hz"], FLAT_Q),
        odd_pan_percent=values["odd_pan_percent"],
        even_pan_percent=values["even_pan_percent"],
    )


def _ping_pong_delay(values: Values, samples: np.ndarray, sample_rate: int) -> np.ndarray:
    return samples + echoes(ping_pong_delay(values), samples.mean(axis=0), sample_rate)


def room(values: Values) -> Reverb:
    return Reverb(
        band_hz=REVERB_BANDS_HZ,
        t60_s=(values["t60_low_s"], values["t60_mid_s"], values["t60_high_s"]),
        mid_level_db=values["wet_db"],
        side_level_db=values["wet_db"],
        correlation=values["correlation"],
        pre_delay_ms=values["pre_delay_ms"],
        equaliser=_reverb_passes(values),
    )


def _reverb(values: Values, samples: np.ndarray, sample_rate: int) -> np.ndarray:
    return samples + reverberate(room(values), samples, sample_rate, np.random.default_rng(values["seed"]))


def _reverb_passes(values: Values) -> tuple[Filter, ...]:
    high_pass = Filter("high_pass", values["high_pass_hz"], FLAT_Q)
    if values["low_pass_hz"] >= NO_LOW_PASS_HZ:
        return (high_pass,)
    return high_pass, Filter("low_pass", values["low_pass_hz"], FLAT_Q)


def freeverb(**values: float) -> Any:
    return pedalboard.Reverb(
        room_size=values["room_size"],
        damping=values["damping"],
        wet_level=values["wet"],
        dry_level=FREEVERB_DRY,
        width=values["width"],
    )


def read_impulse_response(path: str, sample_rate: int) -> np.ndarray:
    """[1 or 2, samples] at `sample_rate`, begun with its first sound (−60 dB against its peak), of energy 1 a channel
    in the mean. Raises InputError for what `audio.io.read` refuses, and for silence."""
    recording = io.read(path)
    io.require_signal(recording, path)
    # Cut before it is resampled: the filter's ringing ahead of the first sound is no sound of the room.
    loud = recording.samples.abs().amax(dim=0) > recording.samples.abs().max() * decibels(ONSET_DB)
    begun = Waveform(recording.samples[:, int(loud.int().argmax()) :], recording.sample_rate)
    samples = begun.resampled(sample_rate).samples.numpy().astype(np.float64)
    return samples / np.sqrt((samples**2).sum(axis=1).mean())


def _convolution(values: Values, samples: np.ndarray, sample_rate: int) -> np.ndarray:
    response = read_impulse_response(values["impulse_response"], sample_rate)
    pre_delay = round(values["pre_delay_ms"] / 1000 * sample_rate)
    wet = oaconvolve(samples, np.pad(response, ((0, 0), (pre_delay, 0))), axes=1)[:, : samples.shape[1]]
    return decibels(values["dry_db"]) * samples + decibels(values["wet_db"]) * wet


MIX = Number("mix", "", 0.0, 1.0, 0.5)
FEEDBACK = Number("feedback", "", -0.95, 0.95, 0.0)

BUILT_IN: tuple[Part, ...] = (
    Part("gain", "louder or softer", (Number("gain_db", "dB", -60.0, 60.0),), _gain),
    _filter("high_pass", "takes off what lies below a frequency, 12 dB an octave"),
    _filter("low_pass", "takes off what lies above a frequency, 12 dB an octave"),
    _filter("peak", "lifts or lowers a band around a frequency"),
    _filter("low_shelf", "lifts or lowers what lies below a frequency"),
    _filter("high_shelf", "lifts or lowers what lies above a frequency"),
    Part(
        "compressor",
        "above the threshold the level rises by 1/ratio only (Pedalboard)",
        (
            Number("threshold_db", "dBFS", -80.0, 0.0),
            Number("ratio", "", 1.0, 100.0),
            Number("attack_ms", "ms", 0.0, 1000.0, 5.0),
            Number("release_ms", "ms", 0.0, 5000.0, 100.0),
            Number("makeup_db", "dB", -20.0, 40.0, 0.0),
        ),
        _compressor,
    ),
    Part(
        "gate",
        "below the threshold the peak level falls ratio times as far (Pedalboard)",
        (
            Number("threshold_db", "dBFS", -100.0, 0.0),
            Number("ratio", "", 1.0, 100.0, 10.0),
            Number("attack_ms", "ms", 0.0, 1000.0, 1.0),
            Number("release_ms", "ms", 0.0, 5000.0, 100.0),
        ),
        _by_pedalboard(gate),
    ),
    Part(
        "saturation",
        "tanh of the sound made louder by drive_db; softer sounds stay louder (Pedalboard's Distortion)",
        (Number("drive_db", "dB", 0.0, 60.0),),
        _by_pedalboard(pedalboard.Distortion),
    ),
    Part(
        "chorus",
        "a copy whose short delay swings (Pedalboard)",
        (
            Number("rate_hz", "Hz", 0.0, 100.0, 1.0),
            Number("depth", "", 0.0, 1.0, 0.25),
            Number("centre_delay_ms", "ms", 1.0, 100.0, 7.0),
            FEEDBACK,
            MIX,
        ),
        _by_pedalboard(pedalboard.Chorus),
    ),
    Part(
        "pan",
        "moves the sound to one side by gains of constant power; what is stereo is balanced",
        (Number("pan_percent", "%", -100.0, 100.0, 0.0),),
        _pan,
    ),
    Part(
        "width",
        "scales what differs between left and right: 0 leaves mono, 100 all as it is",
        (Number("width_percent", "%", 0.0, 400.0, 100.0),),
        _width,
    ),
    Part(
        "delay",
        "echoes that all lie where the sound does (Pedalboard)",
        (Number("time_ms", "ms", 0.0, 10000.0), Number("feedback", "", 0.0, 0.99, 0.0), MIX),
        _by_pedalboard(delay),
    ),
    Part(
        "ping_pong_delay",
        "echoes to and fro between two places, each duller than the one before; the dry sound stays",
        (
            Number("time_ms", "ms", 1.0, 5000.0),
            Number("feedback", "", 0.0, 0.99, 0.3),
            Number("wet_db", "dB", -100.0, 12.0),
            Number("low_pass_hz", "Hz", 100.0, 20000.0, 6000.0),
            Number("odd_pan_percent", "%", -100.0, 100.0, -50.0),
            Number("even_pan_percent", "%", -100.0, 100.0, 50.0),
        ),
        _ping_pong_delay,
    ),
    Part(
        "reverb",
        "diffuse stereo room of decaying noise beside the dry sound; wet_db is its energy, low_pass_hz 20000: none",
        (
            Number("wet_db", "dB", -100.0, 12.0),
            Number("t60_low_s", "s", 0.05, 30.0, 1.5),
            Number("t60_mid_s", "s", 0.05, 30.0, 1.5),
            Number("t60_high_s", "s", 0.05, 30.0, 1.0),
            Number("pre_delay_ms", "ms", 0.0, 500.0, 10.0),
            Number("high_pass_hz", "Hz", 10.0, 2000.0, 100.0),
            Number("low_pass_hz", "Hz", 500.0, NO_LOW_PASS_HZ, NO_LOW_PASS_HZ),
            Number("correlation", "", -1.0, 1.0, 0.0),
            Seed(),
        ),
        _reverb,
    ),
    Part(
        "freeverb",
        "Pedalboard's Reverb; the dry sound stays",
        (
            Number("room_size", "", 0.0, 1.0, 0.5),
            Number("damping", "", 0.0, 1.0, 0.5),
            Number("width", "", 0.0, 1.0, 1.0),
            Number("wet", "", 0.0, 1.0, 0.1),
        ),
        _by_pedalboard(freeverb),
    ),
    Part(
        "convolution",
        "a recorded room or device beside the dry sound; the recording begins with its first sound and has energy 1",
        (
            AudioFile("impulse_response"),
            Number("wet_db", "dB", -100.0, 40.0),
            Number("dry_db", "dB", -100.0, 12.0, 0.0),
            Number("pre_delay_ms", "ms", 0.0, 500.0, 0.0),
        ),
        _convolution,
    ),
    VOCAL_CHAIN,
)
