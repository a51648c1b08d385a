"""FFmpeg's audio filters as parts: what `ffmpeg -h filter=NAME` declares, and the command that runs one.

Only filters of this list, which work on sound alone: others of FFmpeg read or write files, open sockets, change rate
or length, or have more than one input. A value is escaped on both levels of FFmpeg's syntax
(https://ffmpeg.org/ffmpeg-filters.html#Notes-on-filtergraph-escaping), so that it can't become another filter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from audio.errors import InputError
from audio.external_kinds import External, asked, program
from audio.parts_kinds import Choice, Number, Parameter, Text, Value, unknown

NAMES = (
    "acompressor acontrast acrusher adeclick adeclip adelay adynamicequalizer adynamicsmooth aecho aemphasis aexciter "
    "afade afftdn afftfilt afreqshift afwtdn agate alimiter allpass anlmdn aphaser aphaseshift apsyclip "
    "apulsator asoftclip asubboost asubcut asupercut asuperpass asuperstop atilt bandpass bandreject bass biquad bs2b "
    "chorus compand compensationdelay crossfeed crystalizer dcshift deesser dynaudnorm equalizer extrastereo "
    "firequalizer flanger haas highpass highshelf loudnorm lowpass lowshelf mcompand pan rubberband speechnorm "
    "stereotools stereowiden superequalizer tiltshelf treble tremolo vibrato volume"
)
FILTERS = frozenset(NAMES.split())
NOT_OURS = frozenset({"dumpfile", "dumpscale", "curves", "size", "mgain", "fscale", "colors"})  # files and pictures
LINEAR_PHASE = frozenset({"afftdn", "afftfilt", "firequalizer", "rubberband", "superequalizer"})
DELAYS = {"adelay", "compensationdelay", "haas", "vibrato"}  # whose delay is the effect
RINGING = frozenset({"adelay", "aecho", "chorus", "firequalizer"})
OPTION = re.compile(r"^ {2,3}(\S+) +<(\w+)> +\S+ ?(.*)$")
CONSTANT = re.compile(r"^ {5}(\S+) +(-?\d+)? +\S+")
EXTREMES = {"INT_MAX": 2**31 - 1, "INT_MIN": -(2**31), "UINT32_MAX": 2**32 - 1, "I64_MAX": 2**63 - 1}
WHOLE = ("int", "int64", "uint64")


def ffmpeg_filter(name: str) -> External:
    """Raises InputError without FFmpeg or for a filter that this FFmpeg lacks, ValueError for one not in FILTERS."""
    if name not in FILTERS:
        raise ValueError(f"no filter that works on sound alone is called {unknown(name, FILTERS)}")
    ffmpeg = program("ffmpeg")
    told = asked([ffmpeg, "-hide_banner", "-h", f"filter={name}"])
    if not re.search(r"Inputs:\n +#0: \w+ \(audio\)\n +Outputs:\n +#0: \w+ \(audio\)\n\S", told):
        raise InputError(f"this FFmpeg ({ffmpeg}) has no filter {name} with one audio input and output")
    lines = told.splitlines()
    summary = lines[1].strip() if len(lines) > 1 else ""
    return External(
        name,
        f"{summary} (FFmpeg)",
        tuple(options(told)),
        lambda values, rate: command(ffmpeg, f"{name}={_arguments(values)}" if values else name, rate, channels=2),
        latency="none" if name in DELAYS else "peak" if name in LINEAR_PHASE else "onset",
        latency_told="its delay is the effect: none is taken off" if name in DELAYS else "",
        may_ring=name in RINGING,
    )


def options(told: str) -> list[Parameter]:
    """What `ffmpeg -h filter=` says → parameters. Other names of one option are left out."""
    found: list[Parameter] = []
    words: list[str] = []
    before = ""

    def finish() -> None:
        if words and isinstance(found[-1], Number):
            number = found[-1]
            default = re.search(r"\(default ([^)]*)\)", before)
            given = default[1].strip('"') if default else None
            found[-1] = Choice(number.name, tuple(words), given if given in words else None, number.what)
        words.clear()

    for line in told.splitlines():
        constant = CONSTANT.match(line)
        option = OPTION.match(line)
        if constant and not option and found:
            words.append(constant[1])
        elif option:
            finish()
            name, kind, rest = option.groups()
            what = re.sub(r" *\((from|default) [^)]*\)", "", rest).strip()
            same = before == f"{kind} {rest}" and bool(what)
            if name in NOT_OURS or same:
                continue
            parameter = _parameter(name, kind, rest, what)
            if parameter is not None:
                before = f"{kind} {rest}"
                found.append(parameter)
    finish()
    return found


def _parameter(name: str, kind: str, rest: str, what: str) -> Parameter | None:
    edges = re.search(r"\(from (\S+) to ([^)]+)\)", rest)
    default = re.search(r"\(default (.*)\)$", rest)
    given = default[1].strip('"') if default else None
    if kind == "boolean":
        return Choice(name, (True, False), given == "true" if given in ("true", "false") else None, what)
    if kind in ("string", "flags", "duration"):
        return Text(name, given or None, what)
    if edges and kind in ("float", "double", *WHOLE):
        low, high = (_number(edge) for edge in edges.groups())
        unit = "Hz" if "frequency" in what else ""
        return Number(name, unit, low, high, _number(given) if given else None, kind in WHOLE, what)
    return None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        sign, plain = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
        return sign * EXTREMES.get(plain, math.nan if plain.isalpha() else 3.4e38)


def _arguments(values: Mapping[str, Value]) -> str:
    return ":".join(f"{name}={escaped(written(value))}" for name, value in values.items())


def written(value: Value) -> str:
    """As FFmpeg and SoX read it: whole numbers without a point."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return str(value)


def escaped(text: str) -> str:
    """A value of an option within a filter graph, so that FFmpeg reads exactly this text."""
    once = re.sub(r"([\\':])", r"\\\1", text)
    twice = re.sub(r"([\\'\[\],;])", r"\\\1", once)
    return re.sub(r"^\s|\s$", lambda space: f"\\{space[0]}", twice)


def command(ffmpeg: str, graph: str, rate: int, *, channels: int) -> list[str]:
    raw = ["-f", "f32le", "-ar", str(rate)]
    said = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "error"]
    read = [*raw, "-ac", str(channels), "-i", "pipe:0", "-map", "0:a:0"]
    return [ffmpeg, *said, *read, "-filter_threads", "1", "-af", graph, "-f", "f32le", "pipe:1"]
