"""One chain of a file of chains, with every value drawn: what `restyler rack` and `restyler sample --after` play."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audio.errors import InputError
from audio.external import external, latency_samples
from audio.loudness import integrated_loudness_lufs
from audio.parts import ProgramStep, Step, render
from audio.parts_kinds import unknown
from audio.waveform import Waveform
from restyler.chains import read_chains
from restyler.command import QUIETEST_LUFS, shown
from restyler.liked import file_digest

LONGEST_NAME_BYTES = 42  # as JSON, with its quotes


@dataclass(frozen=True)
class Rack:
    """path: of the file of chains. digest: of its content. steps: the chain, every value fixed."""

    path: Path
    digest: str
    style: str
    seed: int
    steps: tuple[Step, ...]

    @property
    def tag(self) -> str:
        """For a file's comment: name and sha256 of the file of chains, which no other chain has."""
        return f"{self.path.name} {self.digest}"


def read_rack(path: Path, *, style: str | None = None, seed: int = 0) -> Rack:
    """style: one of the file's; None where it has only one. seed: decides what the chain draws.

    Raises InputError where `read_chains` does and for a style that is not there or not named.
    """
    chains = read_chains(path)
    if style is None:
        if len(chains.styles) != 1:
            raise InputError(
                f"{shown(path)}: has {len(chains.styles)} styles, one is needed: {', '.join(chains.styles)}"
            )
        (style,) = chains.styles
    if style not in chains.styles:
        raise InputError(f"{shown(path)}: no style is called {unknown(style, chains.styles)}")
    if len(json.dumps(path.name)) > LONGEST_NAME_BYTES:
        raise InputError(
            f"{shown(path)}: a name of at most {LONGEST_NAME_BYTES - 2} bytes fits into comments; rename it"
        )
    steps = chains.draw(style, 0, key="", seed=seed, is_test=False)
    return Rack(path, file_digest(path), style, seed, steps)


def through(steps: Sequence[Step], waveform: Waveform) -> Waveform:
    """A sound through a chain, as long as it was. Raises InputError where the chain leaves silence or no numbers."""
    found = render(steps, waveform)
    if not bool(found.samples.isfinite().all()):
        raise InputError("the chain gives numbers that are not finite")
    loudness_lufs = integrated_loudness_lufs(found)
    if loudness_lufs < QUIETEST_LUFS:
        raise InputError(f"the chain leaves too little to hear: {loudness_lufs:.1f} LUFS; {QUIETEST_LUFS} needed")
    return found


def same_chain(one: str | None, other: str | None) -> bool:
    """Whether tags as `Rack.tag` writes them tell of the same chain, whatever its file is called now."""
    return (one or "").split(" ")[-1] == (other or "").split(" ")[-1]


def latency_lines(steps: Sequence[Step], sample_rate: int) -> list[str]:
    """A line for each part that another program runs and that comes late, or may: by how much, and how that is known.

    Tries each such part at its values, so that what it refuses shows before anything is written. Raises InputError.
    """
    lines = []
    for step in steps:
        if not isinstance(step, ProgramStep):
            continue
        found = external(step.name, step.named, step.path)
        late = latency_samples(step.name, step.named, step.path, tuple(step.values.items()), sample_rate)
        if late is None:
            lines.append(f"{step.name} {found.name}: its latency can't be known: none is taken off")
        elif late:
            lines.append(f"{step.name} {found.name}: {late} samples of latency taken off ({found.about_latency()})")
    return lines


def require_place(out: Path, source: Path, chain: Path, *, overwrite: bool) -> None:
    """Raises InputError where `out` would replace one of the files that it is made of, or, unless `overwrite`, any."""
    originals: Mapping[str, str] = {os.path.realpath(source): "the recording", os.path.realpath(chain): "the chain"}
    same = originals.get(os.path.realpath(out))
    if same:
        raise InputError(f"{shown(out)}: would replace {same}; name another OUT")
    if os.path.lexists(out) and not (overwrite and os.path.isfile(out)):  # noqa: PTH113
        raise InputError(f"{shown(out)}: already exists; name another OUT, or use --overwrite")
