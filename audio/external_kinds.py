"""What every kind of external part has in common: how it is named, run and brought into time."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from audio.errors import InputError
from audio.parts_kinds import Parameter, Value

ASKED_S = 20.0  # how long a program may take to say what it has
INSTALL = {
    "ffmpeg": "Debian, Ubuntu: apt install ffmpeg; macOS: brew install ffmpeg",
    "sox": "Debian, Ubuntu: apt install sox; macOS: brew install sox",
    "lv2info": "Debian, Ubuntu: apt install lilv-utils; macOS: brew install lilv",
}
Latency = Literal["onset", "peak", "none"]
LATENCY_TOLD: dict[Latency, str] = {
    "onset": "measured by an impulse: where its answer begins",
    "peak": "measured by an impulse: where its answer is highest",
    "none": "none is taken off",
}


@dataclass(frozen=True)
class External:
    """A part that another program runs.

    name, what, parameters: what it declares; those that are not given stay as it has them. command: (values, rate in
    Hz) → the program and its arguments, which reads float32 frames of `channels` from stdin and writes those of
    `outputs` to stdout. One channel in and out: it runs once for each side. latency: how it is found; latency_told:
    for people, where that is not all. may_ring: whether it may go on after the end of what it is given. fills_in: as in
    `Part`.
    """

    name: str
    what: str
    parameters: tuple[Parameter, ...]
    command: Callable[[Mapping[str, Value], int], list[str]]
    channels: int = 2
    outputs: int = 2
    latency: Latency = "onset"
    latency_told: str = ""
    may_ring: bool = False
    fills_in: bool = False

    def about_latency(self) -> str:
        return self.latency_told or LATENCY_TOLD[self.latency]


def program(name: str) -> str:
    """The path of an installed program. Raises InputError that says how to install it."""
    found = shutil.which(name)
    if found is None:
        raise InputError(f"{name} is not installed ({INSTALL[name]})")
    return found


def asked(arguments: Sequence[str]) -> str:
    """All that a program says on stdout and stderr, whatever its exit code. Raises InputError where it does not end."""
    try:
        told = subprocess.run(
            list(arguments), stdin=subprocess.DEVNULL, capture_output=True, timeout=ASKED_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"{arguments[0]}: no answer within {ASKED_S:g} s") from None
    except OSError as error:
        raise InputError(f"{arguments[0]}: can't be started: {error.strerror}") from None
    return (told.stdout + told.stderr).decode(errors="replace")


def slug(label: str) -> str:
    """`Input gain (dB)` → `input_gain_db`."""
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_") or "control"


def unit_of(label: str) -> str:
    """`Input gain (dB)` → `dB`; what is no unit of the field is none."""
    found = re.search(r"\(([^()]+)\)\s*$", label)
    return found[1] if found and found[1] in ("dB", "ms", "s", "Hz", "kHz", "%", "degrees", "cents", "us") else ""
