"""What a part of an effect chain declares: its parameters with units and ranges, and what it does to a sound."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Value: TypeAlias = float | int | str | bool
SEED_LIMIT = 2**32
LONGEST_TEXT = 500


@dataclass(frozen=True)
class Number:
    """A number in `unit` (empty for a ratio or share) within low … high, both included. default None: must be given.

    whole: only whole numbers. what: what a part of other makers says of it.
    """

    name: str
    unit: str
    low: float
    high: float
    default: float | None = None
    whole: bool = False
    what: str = ""

    def check(self, value: object) -> Value:
        """The value as a float. Raises ValueError for anything but a finite number within the range."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise ValueError(f"{self.name} lies within {self.allowed()}, not {value!r}")
        if self.whole and not float(value).is_integer():
            raise ValueError(f"{self.name} is a whole number, not {value!r}")
        return float(value)

    def allowed(self) -> str:
        return f"{self.low:g} … {self.high:g} {self.unit}".rstrip() + (" (whole)" if self.whole else "")


@dataclass(frozen=True)
class Choice:
    """One of a few words, or true and false. default None: must be given."""

    name: str
    choices: tuple[Value, ...]
    default: Value | None = None
    what: str = ""

    def check(self, value: object) -> Value:
        """The value itself. Raises ValueError for one that is none of the choices, 1 for true among them."""
        for choice in self.choices:
            if type(value) is type(choice) and value == choice:
                return choice
        raise ValueError(f"{self.name} is one of {self.allowed()}, not {value!r}")

    def allowed(self) -> str:
        return ", ".join(str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in self.choices)


@dataclass(frozen=True)
class Text:
    """A text in the words of a program of other makers, which checks it itself: lists, expressions."""

    name: str
    default: str | None = None
    what: str = ""

    def check(self, value: object) -> Value:
        """The text. Raises ValueError for what is no text, and for line feeds and other signs that don't print."""
        if not isinstance(value, str) or not value or len(value) > LONGEST_TEXT or not value.isprintable():
            raise ValueError(f"{self.name} is {self.allowed()}, not {value!r}")
        return value

    def allowed(self) -> str:
        return f"a text of one line, at most {LONGEST_TEXT} signs"


@dataclass(frozen=True)
class AudioFile:
    """The path of a recording; must be given."""

    name: str
    default: None = None

    def check(self, value: object) -> Value:
        """The path. Raises ValueError for what is no text."""
        if not isinstance(value, str) or not value:
            raise ValueError(f"{self.name} is {self.allowed()}, not {value!r}")
        return value

    def allowed(self) -> str:
        return "the path of an audio file"


@dataclass(frozen=True)
class Seed:
    """The seed of a part's own noise: the same seed, the same noise. Who draws a chain draws it where none is given."""

    name: str = "seed"
    default: None = None

    def check(self, value: object) -> Value:
        """The value itself. Raises ValueError for anything but a whole number of 32 bits."""
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < SEED_LIMIT:
            raise ValueError(f"{self.name} is {self.allowed()}, not {value!r}")
        return value

    def allowed(self) -> str:
        return f"a whole number from 0 to {SEED_LIMIT - 1}"


Parameter: TypeAlias = Number | Choice | Text | AudioFile | Seed
Process: TypeAlias = Callable[[Mapping[str, Any], np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Part:
    """One kind of effect.

    what: one line for people. process: (values of all parameters, [2 samples], sample rate in Hz) → [2 samples] of the
    same length, in place to the sample. fills_in: whether parameters that are not given get their default here; a
    plugin keeps its own.
    """

    name: str
    what: str
    parameters: tuple[Parameter, ...]
    process: Process
    fills_in: bool = True

    def parameter(self, name: object) -> Parameter:
        """Raises ValueError for a name that this part does not have."""
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        raise ValueError(f"{self.name} has no parameter {unknown(name, [each.name for each in self.parameters])}")

    def checked(self, values: Mapping[str, object]) -> dict[str, Value]:
        """All values of one setting, in the order given, then the defaults.

        Raises ValueError for an unknown or missing parameter, or a value out of range.
        """
        found = {name: self.parameter(name).check(value) for name, value in values.items()}
        for parameter in self.parameters if self.fills_in else ():
            if parameter.name not in found:
                if parameter.default is None:
                    raise ValueError(f"{self.name} needs {parameter.name}: {parameter.allowed()}")
                found[parameter.name] = parameter.default
        return found


def unknown(name: object, known: Iterable[str]) -> str:
    """«threshold» (did you mean threshold_db?), or with all that is allowed where nothing is near."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    return f"«{name}» " + (f"(did you mean {near[0]}?)" if near else f"(allowed: {', '.join(names)})")


def decibels(value_db: float) -> float:
    """Gain in dB → linear factor."""
    return math.pow(10.0, value_db / 20)
