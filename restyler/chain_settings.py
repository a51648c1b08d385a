"""The chain of one mix, saved beside it with every value fixed, in the language of `restyler.chains`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from audio import io
from audio.errors import InputError
from audio.external import EXTERNAL
from audio.parts import PLUGIN, ProgramStep, Step, find_part, render
from audio.parts_kinds import AudioFile, decibels
from audio.waveform import Waveform
from restyler.chains import read_chains, read_tree_of_chains
from restyler.yamltree import parse

HEADER = "# The chain of one mix, every value fixed; `restyler synthesize --chains` renders it on other voices.\n"


@dataclass(frozen=True)
class Rendered:
    """What else made one mix of its chain.

    raw: the raw take, relative to the folder of the settings. input_gain_db: from it to what the chain heard;
    output_gain_db: from what came out of the chain to the mix. sample_rate_hz: at which the chain hears the take; None:
    at the take's own.
    """

    raw: str
    input_gain_db: float
    output_gain_db: float
    sample_rate_hz: int | None = None


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which quotes for YAML 1.1, with quotes for the loader of `restyler.yamltree` (1.2) too."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if _is_plain(text) else '"')


_Dumper.add_representer(str, _Dumper.represent_text)


def _is_plain(text: str) -> bool:
    """Whether a text without quotes is read back as itself: `1e3` is a number."""
    try:
        return bool(parse(text, "") == text)
    except InputError:
        return False


def settings_text(style: str, steps: Sequence[Step], rendered: Rendered, *, folder: Path) -> str:
    """The YAML text of settings in `folder`. Floats are written so that they are read back bit for bit.

    A file is named relative to the folder, so that both can move together; but absolutely where they have nothing
    above them in common but the root, as with the plugins of the system.
    """
    at = folder.resolve()
    told = {name: value for name, value in vars(rendered).items() if value is not None}
    tree = {"rendered": told, "styles": {style: [_node(step, at) for step in steps]}}
    return _text(tree)


def with_raw(text: str, raw: str) -> str:
    """Settings as `settings_text` made them, for a folder from which `raw` leads to the take; nothing else changes.

    Raises InputError for a text that is none.
    """
    tree = parse(text, "the settings of a mix")
    if not isinstance(tree, dict) or not isinstance(tree.get("rendered"), dict):
        raise InputError("the settings of a mix have a section «rendered»")
    return _text({**tree, "rendered": {**tree["rendered"], "raw": raw}})


def _text(tree: dict[str, Any]) -> str:
    return HEADER + yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _node(step: Step, folder: Path) -> dict[str, Any]:
    values = dict(step.values)
    if isinstance(step, ProgramStep):
        path = None if step.path is None else _relative(step.path, folder)
        told = dict(zip(EXTERNAL[step.name], (step.named,) if path is None else (path, step.named), strict=True))
        return {step.name: {name: text for name, text in told.items() if text is not None} | {"parameters": values}}
    if step.path is not None:
        return {PLUGIN: {"path": _relative(step.path, folder), "parameters": values}}
    for parameter in find_part(step.name).parameters:
        if isinstance(parameter, AudioFile):
            values[parameter.name] = _relative(str(values[parameter.name]), folder)
    return {step.name: values}


def _relative(path: str, folder: Path) -> str:
    if Path(path).parts[:2] != folder.parts[:2]:
        return path
    return Path(os.path.relpath(path, folder)).as_posix()


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
    raw = raw.resampled(rendered.sample_rate_hz or raw.sample_rate)
    mix = render(draws[0], _amplified(raw, rendered.input_gain_db))
    return _amplified(mix, rendered.output_gain_db), style


def _read_rendered(settings: Path) -> Rendered:
    section = read_tree_of_chains(settings).get("rendered")
    names = ("raw", "input_gain_db", "output_gain_db")
    if (
        not isinstance(section, dict)
        or set(section) - {"sample_rate_hz"} != set(names)
        or not isinstance(section["raw"], str)
    ):
        raise InputError(f"{settings}: the section «rendered» has {', '.join(names)}, and may have sample_rate_hz")
    for name in names[1:]:
        if not isinstance(section[name], float) or not math.isfinite(section[name]):
            raise InputError(f"{settings}: rendered.{name} is a number, not {section[name]!r}")
    rate = section.get("sample_rate_hz", io.MIN_SAMPLE_RATE_HZ)
    if type(rate) is not int or not io.MIN_SAMPLE_RATE_HZ <= rate <= io.MAX_SAMPLE_RATE_HZ:
        allowed = f"a whole number from {io.MIN_SAMPLE_RATE_HZ} to {io.MAX_SAMPLE_RATE_HZ}"
        raise InputError(f"{settings}: rendered.sample_rate_hz is {allowed}, not {rate!r}")
    return Rendered(**section)


def _amplified(waveform: Waveform, gain_db: float) -> Waveform:
    return Waveform(waveform.samples * decibels(gain_db), waveform.sample_rate)
