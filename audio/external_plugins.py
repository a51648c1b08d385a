"""LADSPA and LV2 plugins as parts, hosted by FFmpeg; their controls as FFmpeg and lv2info tell them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from audio.errors import InputError
from audio.external_ffmpeg import command, escaped, written
from audio.external_kinds import External, asked, program, slug, unit_of
from audio.parts_kinds import Number, Parameter, Value, unknown

LADSPA_CONTROL = re.compile(
    r"\] c(\d+): (.*?) \[(?:<(\w+)>(?:, min: ([-\d.einf]+))?(?:, max: ([-\d.einf]+))?"
    r"(?: \(default ([-\d.einf]+)\))?|toggled \(1 or 0\)(?: \(default (\d)\))?)(.*)\]"
)
LADSPA_PLUGIN = re.compile(r"\] +(\d+):(\d+) +(\S+)")
LV2_SYMBOL = re.compile(r"[A-Za-z_]\w*")
WIDEST = 3.4e38  # of a control without an edge
SILENCE = ["-f", "lavfi", "-i", "anullsrc=duration=0.1:sample_rate=48000"]
SHAPES = {(2, 2): (2, 2), (1, 1): (1, 1), (1, 2): (1, 2)}


def _told(ffmpeg: str, graph: str) -> str:
    return asked([ffmpeg, "-hide_banner", "-nostdin", *SILENCE, "-af", graph, "-f", "null", "-"])


def _shape(name: str, inputs: int, outputs: int) -> tuple[int, int]:
    if (inputs, outputs) not in SHAPES:
        allowed = "2 in and 2 out, 1 and 1, or 1 and 2"
        raise InputError(f"{name}: a plugin with {inputs} audio inputs and {outputs} outputs; {allowed} allowed")
    return SHAPES[inputs, outputs]


def ladspa_plugin(path: str, label: str | None) -> External:
    """The plugin `label` of a library; None where it has only one. FFmpeg takes off the latency that a plugin declares.

    Raises InputError for a path without such a plugin, and for one that is no effect from sound to sound.
    """
    ffmpeg = program("ffmpeg")
    if not os.path.isfile(path):  # noqa: PTH113  (Path's raises for a name that is too long)
        raise InputError(f"{path}: there is no such LADSPA library (Debian, Ubuntu: apt install swh-plugins)")
    library = f"ladspa=file={escaped(path)}"
    listed = {name: (int(ins), int(outs)) for ins, outs, name in LADSPA_PLUGIN.findall(_told(ffmpeg, library))}
    if not listed:
        raise InputError(f"{path}: can't be loaded as a LADSPA library")
    chosen_label = next(iter(listed)) if label is None and len(listed) == 1 else label
    if chosen_label is None or chosen_label not in listed:
        raise InputError(f"{path}: has no plugin {unknown(label, listed)}")
    label = chosen_label
    channels, outputs = _shape(f"{path}, {label}", *listed[label])
    chosen = f"{library}:plugin={escaped(label)}"
    numbers: dict[str, int] = {}
    parameters: list[Parameter] = []
    for at, text, kind, low, high, default, toggled, rest in LADSPA_CONTROL.findall(
        _told(ffmpeg, f"{chosen}:controls=help")
    ):
        if "multiple of sample rate" in rest:  # FFmpeg refuses what it would have to be
            continue
        name = slug(text) if slug(text) not in numbers else f"{slug(text)}_{at}"
        numbers[name] = int(at)
        if not kind:
            parameters.append(Number(name, "", 0, 1, float(toggled) if toggled else None, True, text))
            continue
        given = float(default) if default else None
        edges = float(low) if low else -WIDEST, float(high) if high else WIDEST
        parameters.append(Number(name, unit_of(text), *edges, given, kind == "int", text))

    def run(values: Mapping[str, Value], rate: int) -> list[str]:
        controls = "|".join(f"c{numbers[name]}={written(value)}" for name, value in values.items())
        graph = f"{chosen}:latency=1" + (f":controls={escaped(controls)}" if controls else "")
        return command(ffmpeg, graph, rate, channels=channels)

    declared = "what the plugin declares is taken off"
    return External(
        label, f"LADSPA plugin of {Path(path).name}", tuple(parameters), run, channels, outputs, "none", declared
    )


def lv2_plugin(uri: str) -> External:
    """Raises InputError without FFmpeg or lv2info, for a plugin that is not installed, and for one that FFmpeg can't
    host: it gives plugins no options and no bounded block length."""
    ffmpeg, lv2info = program("ffmpeg"), program("lv2info")
    if not re.fullmatch(r"[A-Za-z][\w+.-]*:[^\s|]+", uri):
        raise InputError(f"«{uri}»: an LV2 plugin is named by its URI (`lv2ls` lists them)")
    told = asked([lv2info, uri])
    head, *ports = re.split(r"\n\tPort \d+:\n", told)
    if not ports:
        raise InputError(f"{uri}: no such LV2 plugin is installed (`lv2ls` lists them; Debian: apt install swh-lv2)")
    if "Options feature missing" in _told(ffmpeg, f"lv2=plugin={escaped(uri)}:controls=help"):
        raise InputError(f"{uri}: FFmpeg can't host it: it asks for options that FFmpeg does not give")
    inputs = [port for port in ports if "#AudioPort" in port and "#InputPort" in port]
    outputs = [port for port in ports if "#AudioPort" in port and "#OutputPort" in port]
    channels, sides = _shape(uri, len(inputs), len(outputs))
    symbols: dict[str, str] = {}
    parameters: list[Parameter] = []
    for port in ports:
        facts = dict(re.findall(r"^\t\t(\w+): +(.*)$", port, re.MULTILINE))
        if "#ControlPort" not in port or "#InputPort" not in port or not LV2_SYMBOL.fullmatch(facts["Symbol"]):
            continue
        symbol = facts["Symbol"]
        symbols[symbol] = symbol
        low, high = float(facts.get("Minimum", -WIDEST)), float(facts.get("Maximum", WIDEST))
        whole = "lv2core#integer" in port or "lv2core#toggled" in port
        label = facts.get("Name", "").strip()
        default = float(facts["Default"]) if "Default" in facts else None
        parameters.append(Number(symbol, unit_of(label), low, high, default, whole, label))

    def run(values: Mapping[str, Value], rate: int) -> list[str]:
        controls = "|".join(f"{symbols[name]}={written(value)}" for name, value in values.items())
        graph = f"lv2=plugin={escaped(uri)}" + (f":controls={escaped(controls)}" if controls else "")
        return command(ffmpeg, graph, rate, channels=channels)

    name = re.search(r"Name: +(.*)", head)
    late = re.search(r"Has latency: +yes", head) is not None
    return External(
        name[1].strip() if name else uri,
        f"LV2 plugin {uri}",
        tuple(parameters),
        run,
        channels,
        sides,
        "peak" if late else "none",
        "" if late else "the plugin declares none",
    )
