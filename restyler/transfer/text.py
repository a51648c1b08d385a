"""A fitted chain as lines to read and to dial into the devices of a DAW."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from audio.parts import Step
from audio.parts_builtin import NO_LOW_PASS_HZ

Told = dict[str, Any]


def _frequency(hertz: float) -> str:
    return f"{hertz / 1000:.2f} kHz" if hertz >= 1000 else f"{hertz:.0f} Hz"


def _pass(v: Told) -> str:
    return f"{_frequency(v['frequency_hz'])}, 12 dB/oct, Q {v['q']:.2f}"


def _band(v: Told) -> str:
    return f"{_frequency(v['frequency_hz'])}, {v['gain_db']:+.1f} dB, Q {v['q']:.2f}"


def _compressor(v: Told) -> str:
    return (
        f"threshold {v['threshold_db']:.1f} dBFS, ratio {v['ratio']:.1f}:1, attack {v['attack_ms']:.1f} ms, release "
        f"{v['release_ms']:.0f} ms (time constants of the level), hard knee, make-up {v['makeup_db']:+.1f} dB"
    )


def _position(percent: float) -> str:
    return "centre" if abs(percent) < 0.5 else f"{abs(percent):.0f} % {'left' if percent < 0 else 'right'}"


def _ping_pong(v: Told) -> str:
    places = " and ".join(_position(v[f"{which}_pan_percent"]) for which in ("odd", "even"))
    return (
        f"{v['time_ms']:.0f} ms, feedback {100 * v['feedback']:.0f} %, level {v['wet_db']:.1f} dB, low-pass "
        f"{_frequency(v['low_pass_hz'])}, echoes {places} in turn"
    )


def _reverb(v: Told) -> str:
    times = ", ".join(f"{v[f't60_{band}_s']:.2f} s at {at}" for band, at in _REVERB_BANDS.items())
    low_pass = "" if v["low_pass_hz"] >= NO_LOW_PASS_HZ else f", low-pass {_frequency(v['low_pass_hz'])}"
    return (
        f"level {v['wet_db']:.1f} dB, decay (T60) {times}, pre-delay {v['pre_delay_ms']:.0f} ms, high-pass "
        f"{_frequency(v['high_pass_hz'])}{low_pass}, width {100 * (1 - v['correlation']):.0f} %"
    )


_REVERB_BANDS = {"low": "250 Hz", "mid": "1 kHz", "high": "4 kHz"}

DEVICES: dict[str, tuple[str, Callable[[Told], str]]] = {
    "gain": ("Gain", lambda v: f"{v['gain_db']:+.1f} dB"),
    "high_pass": ("High-pass", _pass),
    "low_shelf": ("Low shelf", _band),
    "peak": ("Bell", _band),
    "high_shelf": ("High shelf", _band),
    "low_pass": ("Low-pass", _pass),
    "compressor": ("Compressor", _compressor),
    "width": ("Width", lambda v: f"{v['width_percent']:.0f} %"),
    "pan": ("Pan", lambda v: _position(v["pan_percent"])),
    "ping_pong_delay": ("Delay", _ping_pong),
    "reverb": ("Reverb", _reverb),
}


def heading(mix: str) -> str:
    """What the text about a mix of this file name begins with."""
    return f"The chain of {mix}"


def readable(steps: Sequence[Step], *, mix: str, heard_lufs: float, input_gain_db: float, output_gain_db: float) -> str:
    """One line a device, in the order of the sound. mix: name of the file that the chain made; gains as in
    `restyler.chain_settings.Rendered`; heard_lufs: loudness of the take after the first."""
    lines = [
        ("Input", f"{input_gain_db:+.1f} dB: thresholds are for a take of {heard_lufs:.0f} LUFS (mono on both sides)"),
        *((DEVICES[step.name][0], DEVICES[step.name][1](dict(step.values))) for step in steps),
        ("Output", f"{output_gain_db:+.1f} dB"),
    ]
    head = f"{heading(mix)}, in the order of the sound. Levels of delay and reverb are against the dry sound.\n\n"
    return head + "".join(f"{place:2}  {name:11} {what}\n" for place, (name, what) in enumerate(lines, start=1))
