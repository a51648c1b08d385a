"""The chain of one mix, saved beside it with every value fixed, in the language of `restyler.chains`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from audio import io
from audio.errors import InputError
from audio.parts import PLUGIN, Step, render
from audio.parts_kinds import decibels
from audio.waveform import Waveform
from restyler.chains import read_chains, read_tree_of_chains

HEADER = "# The chain of one mix, every value fixed; `restyler synthesize --chains` renders it on other voices.\n"


@dataclass(frozen=True)
class Rendered:
    """What else made one mix of its chain.

    raw: the raw take, relative to the folder of the settings. input_gain_db: from it to what the chain heard;
    output_gain_db: from what came out of the chain to the mix.
    """

    raw: str
    input_gain_db: float
    output_gain_db: float


def settings_text(style: str, steps: Sequence[Step], rendered: Rendered) -> str:
    """The YAML text. Floats are written so that they are read back bit for bit."""
    tree = {"rendered": vars(rendered), "styles": {style: [_node(step) for step in steps]}}
    return HEADER + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=120)


def _node(step: Step) -> dict[str, Any]:
    values = dict(step.values)
    return {step.name: values} if step.path is None else {PLUGIN: {"path": step.path, "parameters": values}}


def render_again(settings: Path) -> tuple[Waveform, str]:
    """The mix that settings were saved beside, from its raw take and its chain alone; and its style.

    It differs by what 24 bits rounded off the raw take. Raises InputError for settings of more than one style or with
    a value that is not fixed, or whose section `rendered` is missing or incomplete.
    """
    rendered = _read_rendered(settings)
    chains = read_chains(settings)
    if len(chains.styles) != 1:
        raise InputError(f"{settings}: the settings of a mix have one style, not {len(chains.styles)}")
    (style,) = chains.styles
    draws = [chains.draw(style, number, key="", seed=0, is_test=False) for number in (0, 1)]
    if draws[0] != draws[1]:
        raise InputError(f"{settings}: the settings of a mix have every value fixed")
    raw = io.read(settings.parent / rendered.raw)
    mix = render(draws[0], _amplified(raw, rendered.input_gain_db))
    return _amplified(mix, rendered.output_gain_db), style


def _read_rendered(settings: Path) -> Rendered:
    section = read_tree_of_chains(settings).get("rendered")
    names = ("raw", "input_gain_db", "output_gain_db")
    if not isinstance(section, dict) or set(section) != set(names) or not isinstance(section["raw"], str):
        raise InputError(f"{settings}: the section «rendered» has {', '.join(names)}")
    for name in names[1:]:
        if not isinstance(section[name], float) or not math.isfinite(section[name]):
            raise InputError(f"{settings}: rendered.{name} is a number, not {section[name]!r}")
    return Rendered(**section)


def _amplified(waveform: Waveform, gain_db: float) -> Waveform:
    return Waveform(waveform.samples * decibels(gain_db), waveform.sample_rate)
