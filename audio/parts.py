"""Effect chains as lists of parts: which there are, what each declares, and how a chain of them sounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from audio.external import process_by_program
from audio.parts_builtin import BUILT_IN
from audio.parts_kinds import Choice, Number, Part, Seed, Text, Value, unknown
from audio.parts_plugin import process_by_plugin
from audio.waveform import Waveform

PARTS: dict[str, Part] = {part.name: part for part in BUILT_IN}
PLUGIN = "vst3"  # the name in a chain of a plugin of other makers


@dataclass(frozen=True)
class Step:
    """One part with its values. path: of the plugin; None for a built-in part."""

    name: str
    values: Mapping[str, Value]
    path: str | None = None


@dataclass(frozen=True)
class ProgramStep(Step):
    """One part that another program runs. name: its kind, one of `audio.external.EXTERNAL`. path: of a LADSPA library.

    named: the filter, effect, plugin or URI.
    """

    named: str | None = None


def find_part(name: object) -> Part:
    """Raises ValueError for a name that no built-in part has."""
    if isinstance(name, str) and name in PARTS:
        return PARTS[name]
    raise ValueError(f"no part is called {unknown(name, [*PARTS, PLUGIN])}")


def render(steps: Sequence[Step], waveform: Waveform) -> Waveform:
    """Mono or stereo take → stereo mix of the same rate and length, in place to the sample; the values alone decide it.

    Raises ValueError for more than two channels or values that the parts don't allow, InputError for a file or plugin
    that can't be used.
    """
    rate = waveform.sample_rate
    samples = waveform.stereo().samples.numpy().astype(np.float64)
    for step in steps:
        if isinstance(step, ProgramStep):
            samples = process_by_program(step.name, step.named, step.path, step.values, samples, rate)
        elif step.path is not None:
            samples = process_by_plugin(step.path, step.values, samples, rate)
        else:
            part = find_part(step.name)
            samples = part.process(part.checked(step.values), samples, rate)
    return Waveform(torch.from_numpy(samples.astype(np.float32)), rate)


def described(part: Part) -> str:
    """What a part declares, for people: a line for itself and one for each parameter."""
    lines = [f"{part.name}: {part.what}"]
    for parameter in part.parameters:
        said = f" – {parameter.what}" if isinstance(parameter, Number | Choice | Text) and parameter.what else ""
        if parameter.default is not None:
            given = f"{parameter.default:g}" if isinstance(parameter, Number) else str(parameter.default)
        else:
            given = "drawn" if isinstance(parameter, Seed) else "must be given" if part.fills_in else "its own"
        lines.append(f"  {parameter.name}: {parameter.allowed()} (default: {given}){said}")
    return "\n".join(lines)
