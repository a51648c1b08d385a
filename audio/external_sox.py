"""SoX's effects as parts. SoX takes its arguments by place, so names and ranges are given here, as its manual has
them; each is held against the usage that the installed SoX prints, and SoX itself checks what it is given.

SoX works on 32-bit whole numbers: what is louder than full scale is clipped, which is refused, not kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from audio.errors import InputError
from audio.external_ffmpeg import written
from audio.external_kinds import External, asked, program
from audio.parts_kinds import Choice, Number, Parameter, Value, unknown


@dataclass(frozen=True)
class Place:
    """One argument. word: by which SoX's usage calls it. suffix: its unit in SoX's words. flag: a switch instead."""

    parameter: Parameter
    word: str
    suffix: str = ""
    flag: str = ""


def _number(name: str, unit: str, low: float, high: float, default: float | None, word: str, suffix: str = "") -> Place:
    return Place(Number(name, unit, low, high, default), word, suffix)


def _flag(name: str, flag: str, word: str) -> Place:
    return Place(Choice(name, (True, False), False), word, flag=flag)


def _swing(speed: tuple[float, float]) -> tuple[Place, ...]:
    return (
        _number("gain_in", "", 0, 1, 0.4, "gain-in"),
        _number("gain_out", "", 0, 1e9, 0.74, "gain-out"),
        _number("delay_ms", "ms", 0, 5, 3.0, "delay"),
        _number("decay", "", 0, 0.99, 0.4, "decay"),
        _number("speed_hz", "Hz", *speed, 0.5, "speed"),
    )


FREQUENCY = _number("frequency_hz", "Hz", 1, 192000, None, "frequency")
Q = _number("q", "", 0.01, 100, 0.707, "width", "q")
GAIN = _number("gain_db", "dB", -100, 100, None, "gain")
EFFECTS: dict[str, tuple[str, tuple[Place, ...]]] = {
    "allpass": ("turns the phase around a frequency", (FREQUENCY, Q)),
    "bandpass": ("leaves a band", (FREQUENCY, Q)),
    "bandreject": ("takes a band away", (FREQUENCY, Q)),
    "bass": (
        "low shelf",
        (GAIN, _number("frequency_hz", "Hz", 1, 192000, 100.0, "frequency"), Q),
    ),
    "treble": (
        "high shelf",
        (GAIN, _number("frequency_hz", "Hz", 1, 192000, 3000.0, "frequency"), Q),
    ),
    "equalizer": ("lifts or lowers a band", (FREQUENCY, Q, GAIN)),
    "highpass": ("second order", (FREQUENCY, Q)),
    "lowpass": ("second order", (FREQUENCY, Q)),
    "gain": ("louder or softer", (_number("gain_db", "dB", -100, 100, None, "gain-dB"),)),
    "contrast": ("saturation that makes louder", (_number("enhancement", "", 0, 100, 75.0, "enhancement"),)),
    "overdrive": (
        "saturation",
        (_number("gain_db", "dB", 0, 100, 20.0, "gain"), _number("colour", "", 0, 100, 20.0, "colour")),
    ),
    "tremolo": (
        "the level swings",
        (
            _number("speed_hz", "Hz", 0.1, 1000, None, "speed_Hz"),
            _number("depth_percent", "%", 1, 100, 40.0, "depth_percent"),
        ),
    ),
    "phaser": ("notches that move", _swing((0.1, 2))),
    "flanger": (
        "a copy whose short delay swings",
        (
            _number("delay_ms", "ms", 0, 30, 0.0, "delay"),
            _number("depth_ms", "ms", 0, 10, 2.0, "depth"),
            _number("regeneration_percent", "%", -95, 95, 0.0, "regen"),
            _number("width_percent", "%", 0, 100, 71.0, "width"),
            _number("speed_hz", "Hz", 0.1, 10, 0.5, "speed"),
        ),
    ),
    "reverb": (
        "Freeverb",
        (
            _flag("wet_only", "-w", "-w"),
            _number("reverberance_percent", "%", 0, 100, 50.0, "reverberance"),
            _number("high_damping_percent", "%", 0, 100, 50.0, "HF-damping"),
            _number("room_scale_percent", "%", 0, 100, 100.0, "room-scale"),
            _number("stereo_depth_percent", "%", 0, 100, 100.0, "stereo-depth"),
            _number("pre_delay_ms", "ms", 0, 500, 0.0, "pre-delay"),
            _number("wet_gain_db", "dB", -10, 10, 0.0, "wet-gain"),
        ),
    ),
    "swap": ("left becomes right", ()),
}
RINGING = frozenset({"reverb"})


def sox_effect(name: str) -> External:
    """Raises InputError without SoX or for one whose effect takes other arguments, ValueError for another name."""
    if name not in EFFECTS:
        raise ValueError(f"no effect is called {unknown(name, EFFECTS)}")
    sox = program("sox")
    usage = asked([sox, "--help-effect", name])
    found = re.search(rf"^{re.escape(name)}\b.*$", usage, re.MULTILINE)
    what, places = EFFECTS[name]
    at = 0
    for place in places:
        at = found[0].find(place.word, at) + 1 if found else 0
        if not at:
            raise InputError(f"this SoX ({sox}): {name} has no argument {place.word} in its place")

    def run(values: Mapping[str, Value], rate: int) -> list[str]:
        raw = ["-t", "raw", "-e", "floating-point", "-b", "32", "-L"]
        said = [sox, "-D", "-R", "--single-threaded", "-V2"]
        return [*said, *raw, "-r", str(rate), "-c", "2", "-", *raw, "-", name, *_arguments(places, values)]

    parameters = tuple(place.parameter for place in places)
    return External(
        name,
        f"{what} (SoX)",
        parameters,
        run,
        latency="none",
        latency_told="these effects have none",
        may_ring=name in RINGING,
        fills_in=True,
    )


def _arguments(places: tuple[Place, ...], values: Mapping[str, Value]) -> list[str]:
    """Switches first, then numbers by place; every parameter has its value."""
    switches = [place.flag for place in places if place.flag and values[place.parameter.name]]
    return switches + [written(values[place.parameter.name]) + place.suffix for place in places if not place.flag]
