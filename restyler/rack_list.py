"""What `restyler rack --list` prints: parts with the names, units, ranges and defaults that the real ones declare."""

from __future__ import annotations

from collections.abc import Sequence

from audio.errors import InputError
from audio.external import EXTERNAL, external, external_part
from audio.external_ffmpeg import FILTERS
from audio.external_sox import EFFECTS
from audio.parts import PARTS, described
from restyler.synthesize import listed_parts

HELP = {
    "ffmpeg": f"filters of FFmpeg: {' '.join(sorted(FILTERS))}",
    "sox": f"effects of SoX: {' '.join(EFFECTS)}",
    "ladspa": "a LADSPA plugin by FFmpeg: rack --list ladspa PATH [PLUGIN]",
    "lv2": "an LV2 plugin by FFmpeg: rack --list lv2 URI (`lv2ls` lists the URIs)",
}


def listed(names: Sequence[str]) -> str:
    """names: none for all that needs no program; a part or the path of a plugin; or a kind of EXTERNAL, and what is
    meant. Raises InputError for anything else, and for a program or plugin that is missing."""
    match names:
        case []:
            return "\n".join([*map(described, PARTS.values()), *(f"{kind}: {text}" for kind, text in HELP.items())])
        case [kind] if kind in EXTERNAL:
            return f"{kind}: {HELP[kind]}"
        case [name]:
            return listed_parts(name)
        case ["ladspa", path, *label] if len(label) <= 1:
            return _described("ladspa", label[0] if label else None, path)
        case [kind, named] if kind in EXTERNAL:
            return _described(kind, named, None)
    raise InputError(f"--list takes a part, or one of {', '.join(EXTERNAL)} and what is meant, not {' '.join(names)}")


def _described(kind: str, named: str | None, path: str | None) -> str:
    try:
        part = external_part(kind, named, path)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{kind}: {error}") from None
    return f"{described(part)}\n  latency: {external(kind, named, path).about_latency()}"
