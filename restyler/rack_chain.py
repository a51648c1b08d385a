"""One chain of a file of chains, with every value drawn: what `restyler rack` and `restyler sample --after` play."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audio import on_disk
from audio.errors import InputError
from audio.external import external, latency_samples
from audio.loudness import integrated_loudness_lufs
from audio.parts import ProgramStep, Step
from audio.parts_kinds import unknown
from audio.parts_stages import BLOCK_FRAMES, stream
from audio.waveform import Waveform
from restyler.chain_files import identified
from restyler.chain_reader import PRESET_TABLE
from restyler.chains import Chains, read_chains
from restyler.command import QUIETEST_LUFS, shown

LONGEST_NAME_BYTES = 42  # as JSON, with its quotes
DIGEST_DIGITS = 12


@dataclass(frozen=True)
class Rack:
    """path: of the file of chains. tag: for a file's comment, by `tag_of`. steps: the chain, every value fixed. files:
    what it is read from, beside `path`.
    """

    path: Path
    tag: str
    style: str
    seed: int
    steps: tuple[Step, ...]
    files: tuple[Path, ...] = ()


def read_rack(path: Path, *, style: str | None = None, seed: int = 0) -> Rack:
    """style: one of the file's; None where it has only one. seed: decides what the chain draws.

    Raises InputError where `read_chains` does and for a style that is not there or not named.
    """
    return rack_of(read_chains(path), style=style, seed=seed)


def rack_of(chains: Chains, *, style: str | None = None, seed: int = 0) -> Rack:
    """The same for a file that is read already."""
    path = chains.path
    if style is None:
        if len(chains.styles) != 1:
            raise InputError(
                f"{shown(path)}: has {len(chains.styles)} styles, one is needed: {', '.join(chains.styles)}"
            )
        (style,) = chains.styles
    if style not in chains.styles:
        raise InputError(f"{shown(path)}: no style is called {unknown(style, chains.styles)}")
    require_short_name(path)
    steps = chains.draw(style, 0, key="", seed=seed, is_test=False)
    tables = [path.parent / name.removeprefix(PRESET_TABLE) for name in chains.tables]
    return Rack(path, tag_of(path, steps, chains.files), style, seed, steps, (*map(Path, chains.files), *tables))


def require_short_name(path: Path) -> None:
    """Raises InputError for a file whose name would take more of a comment than is kept for it."""
    if not fits_comments(path.name):
        raise InputError(
            f"{shown(path)}: a name of at most {LONGEST_NAME_BYTES - 2} bytes fits into comments; rename it"
        )


def fits_comments(name: str) -> bool:
    """Whether a name takes no more of a comment than is kept for one."""
    return len(json.dumps(name)) <= LONGEST_NAME_BYTES


def tag_of(path: Path, steps: Sequence[Step], files: Mapping[str, str], *, every: int = 1) -> str:
    """For a file's comment: the name of a file of chains, and a digest that no other chain has: of all that it plays,
    its recordings and plugins by their content, and for how many mixes (`every`). files: those, as in `Chains`."""
    played = repr(identified(steps, files)) + (f" every {every}" if every > 1 else "")
    digest = hashlib.sha256(played.encode()).hexdigest()[:DIGEST_DIGITS]
    return f"{path.name} {digest}"


def through(steps: Sequence[Step], waveform: Waveform) -> Waveform:
    """`played`; raises InputError also where the chain leaves silence."""
    found = played(steps, waveform)
    loudness_lufs = integrated_loudness_lufs(found)
    if loudness_lufs < QUIETEST_LUFS:
        raise InputError(f"the chain leaves too little to hear: {loudness_lufs:.1f} LUFS; {QUIETEST_LUFS} needed")
    return found


def played(steps: Sequence[Step], waveform: Waveform, *, wet_only: bool = False) -> Waveform:
    """A new sound: this one through a chain, as long as it was, stereo, and on disk where `audio.on_disk` says so.

    wet_only: as in `audio.parts_stages.stream`. Raises InputError where the chain gives numbers that are not finite.
    """
    found = Waveform(on_disk.empty(2, waveform.samples.shape[1]), waveform.sample_rate)
    at = 0
    for block in stream(steps, _blocks(waveform), waveform.sample_rate, wet_only=wet_only):
        if not bool(block.samples.isfinite().all()):
            raise InputError("the chain gives numbers that are not finite")
        found.samples[:, at : at + block.samples.shape[1]] = block.samples
        at += block.samples.shape[1]
        on_disk.let_go(found.samples)
    return found


def _blocks(waveform: Waveform) -> Iterator[Waveform]:
    for part in on_disk.parts(waveform.samples, size=BLOCK_FRAMES):
        yield Waveform(waveform.samples[:, part], waveform.sample_rate)


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


def require_place(out: Path, source: Path, rack: Rack, *, overwrite: bool) -> None:
    """Raises InputError where `out` would replace one of the files that it is made of, or, unless `overwrite`, any."""
    originals = {os.path.realpath(file): "a file of the chain" for file in rack.files}
    originals |= {os.path.realpath(source): "the recording", os.path.realpath(rack.path): "the chain"}
    same = originals.get(os.path.realpath(out))
    if same:
        raise InputError(f"{shown(out)}: would replace {same}; name another OUT")
    if os.path.lexists(out) and not (overwrite and os.path.isfile(out)):  # noqa: PTH113
        raise InputError(f"{shown(out)}: already exists; name another OUT, or use --overwrite")
