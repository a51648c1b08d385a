"""Effect chains that a job brings along as text: `before`, `after` and `reverb`, read as `restyler sample` reads files.

A chain is checked before its job is accepted, and read again by the worker. Nobody who asks can name a file, table or
plugin of the server; and programs (FFmpeg's filters, SoX's effects) only where the operator allows them.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from audio.errors import InputError
from audio.parts import PARTS, Step
from audio.parts_kinds import Value
from restyler.chain_reader import Column, StylePart
from restyler.chains import read_chains
from restyler.rack_chain import latency_lines, rack_of
from restyler.sample import parser
from restyler.sample_choice import Chains
from restyler.sample_plan import require_together
from restyler.sends import sends_of

BUILT_IN = tuple(name for name in PARTS if name != "convolution")  # which needs a recording
PROGRAMS = ("ffmpeg", "sox")
MOST_PARTS = 16
MOST_DECAY_S = 30.0  # of all reverbs of a chain together: each holds its whole decay in memory
DEEPEST = 20
Played: TypeAlias = tuple[
    str, Mapping[str, Sequence[Value]]
]  # name of a part; what each parameter is, or may be drawn as
MOST_ECHOES = 2000  # a second, of all ping-pong delays of a chain together: each echo is a step of its own
ECHO_MS = {"ping_pong_delay": "time_ms", "vocal_chain": "delay_time_ms"}  # in what parameter a part says the time
BEGINS = (
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
)
ENDS = (yaml.BlockEndToken, yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)
DECAY = "t60"  # in the names of the parameters that say how long a reverb decays


def allowed_parts(*, programs: bool) -> tuple[str, ...]:
    return (*BUILT_IN, *PROGRAMS) if programs else BUILT_IN


def read_job_chains(chains: Mapping[str, Mapping[str, str]], *, allowed: Sequence[str], sample_rate: int) -> Chains:
    """chains: by their fields, those that a job has, each with `name` and `yaml`.

    Raises InputError that begins with the field that is to blame.
    """
    found: dict[str, Any] = {}
    for field, chain in chains.items():
        try:
            _require_plain(chain["yaml"])
            read = read_chains(Path(chain["name"]), text=chain["yaml"], allowed=allowed, buses=field == "reverb")
            # Values that are drawn are drawn from seed 0, but those of a reverb by each mix, wherever they fall.
            parts = [part for style in read.styles.values() for part in style]
            steps = [step for style in read.styles for step in read.draw(style, 0, key="", seed=0, is_test=False)]
            _require_small([_played(*both, drawn=field == "reverb") for both in zip(parts, steps, strict=True)])
            latency_lines(steps, sample_rate)
            found[field] = sends_of(read, sample_rate=sample_rate) if field == "reverb" else rack_of(read)
        except InputError as error:
            raise InputError(f"{field}: {error}") from None
    return Chains(**found)


def _require_plain(text: str) -> None:
    """Raises InputError for aliases, a few lines of which can stand for more than memory holds, and for lists within
    lists so deep that reading them takes seconds."""
    depth = 0
    with contextlib.suppress(yaml.YAMLError):  # told better where it is read
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AliasToken):
                raise InputError("aliases (*name) are not taken here")
            depth += isinstance(token, BEGINS) - isinstance(token, ENDS)
            if depth > DEEPEST:
                raise InputError(f"lists and mappings lie up to {DEEPEST} deep here")


def _played(part: StylePart, step: Step, *, drawn: bool) -> Played:
    """drawn: whether each mix draws the part's distributions anew; else the step's values are what is played."""
    ends = {name: source.extremes for name, source in part.values.items() if drawn and not isinstance(source, Column)}
    return step.name, {name: ends.get(name, (value,)) for name, value in step.values.items()}


def _require_small(parts: Sequence[Played]) -> None:
    if len(parts) > MOST_PARTS:
        raise InputError(f"up to {MOST_PARTS} parts are played here, not {len(parts)}")
    decays_s = [
        [float(value) for name, values in every.items() if DECAY in name for value in values] for _, every in parts
    ]
    in_all_s = sum(max(each, default=0.0) for each in decays_s)
    if in_all_s > MOST_DECAY_S:
        raise InputError(f"reverbs may decay for {MOST_DECAY_S:g} s together here, not {in_all_s:.1f} s")
    echoes = sum(1000 / min(map(float, every[ECHO_MS[name]])) for name, every in parts if name in ECHO_MS)
    if echoes > MOST_ECHOES:
        raise InputError(f"ping-pong delays may give {MOST_ECHOES} echoes a second together here, not {echoes:.0f}")


def options_of(arguments: Sequence[str], chains: Mapping[str, Any]) -> argparse.Namespace:
    """A job's arguments as `restyler sample` reads them, its chains among them by their names, checked together.

    Raises InputError for what excludes each other.
    """
    options = parser().parse_args(arguments)
    for field, chain in chains.items():
        setattr(options, field, Path(chain["name"]))
    require_together(options)
    return options
