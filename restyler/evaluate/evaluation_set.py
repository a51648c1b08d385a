"""What is scored: the pairs of a folder, and other systems' renders of them, checked before anything is rendered."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audio.errors import InputError
from audio.io import read, require_signal
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from restyler.command import shown
from restyler.evaluate.effects_space import SHORTEST_S
from restyler.pairs import Pair, read_pairs
from restyler.takes import AUDIO_SUFFIXES

RENDERS = "renders"  # folder of a set with other systems' renders of it
DRAW = re.compile(r"(?P<key>.+)_(?P<draw>\d+)")  # KEY_00, KEY_01, …: several renders of one pair


@dataclass(frozen=True)
class Song:
    """One pair to be scored, in memory: everything stereo, at the mix's own rate, and as long as the mix.

    key: names the pair. song: what the bootstrap draws; pairs of one song are no independent observations.
    renders: other systems' draws by the system's name.
    """

    key: str
    song: str
    take: Waveform
    mix: Waveform
    style: str | None = None
    renders: Mapping[str, Sequence[Waveform]] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One pair to be scored, as files. unprocessed: its mix is virtually its raw take, so nothing is to be learned.

    renders: for each other system its files, one a draw.
    """

    key: str
    song: str
    raw: Path
    mix: Path
    style: str | None
    unprocessed: bool
    renders: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    def load(self) -> Song:
        """Raises InputError where a file can't be read, is silent or too short, or is not as long as the mix."""
        mix = heard(self.mix)
        take = matching(self.raw, self.mix, mix)
        renders = {name: [matching(path, self.mix, mix) for path in paths] for name, paths in self.renders.items()}
        return Song(self.key, self.song, take, mix, self.style, renders)


def heard(path: Path) -> Waveform:
    """A stereo file with sound in it. Raises InputError where `audio.io.read` does, for a silent file, and for one that
    is too short to be measured."""
    waveform = read(path).stereo()
    if waveform.duration_s < SHORTEST_S:
        raise InputError(f"{shown(path)}: {waveform.duration_s:.2f} s long; at least {SHORTEST_S:g} s are needed")
    require_signal(waveform, path)
    if integrated_loudness_lufs(waveform) == -math.inf:
        raise InputError(f"{shown(path)}: silent: all of it lies below -70 LUFS")
    return waveform


def matching(path: Path, mix_path: Path, mix: Waveform) -> Waveform:
    """A file at the mix's rate. Raises InputError where it is silent or not as long as the mix."""
    waveform = heard(path).resampled(mix.sample_rate)
    if waveform.samples.shape != mix.samples.shape:
        raise InputError(
            f"{shown(path)}: {waveform.duration_s:.4f} s long, its mix {shown(mix_path)} {mix.duration_s:.4f} s;"
            " what is compared must have one length, to the sample"
        )
    return waveform


def read_set(folder: Path, split: str) -> list[Entry]:
    """The pairs of a folder (docs/architecture.md, «Pairs») that are to be scored, sorted by key.

    Where rows of its pairs.jsonl name splits, those of `split`; else all. Further columns that count here: `song`, else
    a take and its mixes are a song of their own, and `unprocessed` (true: the mix is virtually the raw take). A pair
    is named by the key of its take, or by its mix's file where the take has several. Files in FOLDER/renders/NAME are
    another system's renders, see `find_renders`.

    Raises InputError where `read_pairs` does, for a column of another type, and where no pair is of that split.
    """
    pairs = read_pairs(folder, validation_fraction=0.0, needed=())
    columns = _columns(folder / "pairs.jsonl")
    if any(row.get("split") for row in columns.values()):
        pairs = [pair for pair in pairs if pair.split == split]
    if not pairs:
        raise InputError(f"{shown(folder)}: none of its pairs is in the {split} split")
    mixes_of = Counter(pair.key for pair in pairs)
    entries = [_entry(pair, columns.get(pair.mix, {}), alone=mixes_of[pair.key] == 1) for pair in pairs]
    twice = [key for key, count in Counter(entry.key for entry in entries).items() if count > 1]
    outside = [entry.key for entry in entries if ".." in Path(entry.key).parts or Path(entry.key).is_absolute()]
    if outside:
        raise InputError(f"{shown(folder)}: «{shown(outside[0])}» can't be a key: files are named after it")
    if twice:
        raise InputError(f"{shown(folder)}: two pairs would be called «{twice[0]}»; name their mixes differently")
    return sorted(entries, key=lambda entry: entry.key)


def chosen_entries(folder: Path, split: str, *, renders: Path | None, limit: int | None) -> list[Entry]:
    """`read_set`, at most `limit` of it, evenly over the whole, with the renders that lie in the set and in `renders`.

    Raises InputError where `read_set`, `find_renders` and `with_renders` do.
    """
    every = read_set(folder, split)
    count = min(limit or len(every), len(every))
    entries = [every[place * len(every) // count] for place in range(count)]
    keys = {entry.key for entry in every}
    for place in (folder / RENDERS, renders):
        if place is not None and (place is renders or place.is_dir()):
            entries = with_renders(entries, find_renders(place), keys)
    return entries


def _entry(pair: Pair, row: Mapping[str, Any], *, alone: bool) -> Entry:
    key = pair.key if alone else pair.mix.stem
    return Entry(key, row.get("song") or pair.key, pair.raw, pair.mix, pair.style, bool(row.get("unprocessed")))


def _columns(manifest: Path) -> dict[Path, dict[str, Any]]:
    """The rows of a manifest that `read_pairs` has accepted, by their mixes; none without a manifest."""
    if not manifest.exists():
        return {}
    found = {}
    for number, line in enumerate(manifest.read_text(encoding="utf-8").split("\n"), start=1):
        if line.strip():
            row = json.loads(line)
            for name, kind in (("song", str), ("unprocessed", bool)):
                if not isinstance(row.get(name), kind | None):
                    said = "a text" if kind is str else "true or false"
                    raise InputError(f"{shown(manifest)}, line {number}: «{name}» is {said}, not {row[name]!r}")
            found[manifest.parent / row["mix"]] = row
    return found


def find_renders(folder: Path) -> dict[str, Path]:
    """The systems of a folder of renders by name: its folders, or itself where it holds audio files directly.

    Raises InputError for a folder that is missing or holds neither.
    """
    if not folder.is_dir():
        raise InputError(f"{shown(folder)}: there is no such folder of renders")
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if any(path.is_file() and path.suffix.lower() in AUDIO_SUFFIXES for path in inside):
        return {folder.resolve().name: folder}
    systems = {path.name: path for path in inside if path.is_dir()}
    if not systems:
        raise InputError(f"{shown(folder)}: holds neither audio files nor folders of them, one a system")
    return systems


def with_renders(entries: Sequence[Entry], systems: Mapping[str, Path], keys: Set[str]) -> list[Entry]:
    """The entries with every system's files: KEY.* is the only render of the pair KEY, KEY_00.*, KEY_01.* are draws.

    keys: of the whole set, of which the entries may be a part. Raises InputError for a file that belongs to none of
    these, an entry that a system leaves out (what is scored on fewer pairs can't be compared) or has another number of
    draws of, and an entry that is there both with and without a number.
    """
    found: dict[str, dict[str, tuple[Path, ...]]] = {entry.key: dict(entry.renders) for entry in entries}
    for name, folder in systems.items():
        if any(name in renders for renders in found.values()):
            raise InputError(f"{shown(folder)}: two systems called «{name}»; rename one folder")
        for key, paths in _by_key(folder, keys).items():
            if key in found:
                found[key][name] = paths
        missing = [key for key in found if name not in found[key]]
        if missing:
            raise InputError(
                f"{shown(folder)}: no render of «{missing[0]}» ({len(missing)} of {len(found)} pairs are missing)"
            )
        counts = {key: len(found[key][name]) for key in found}
        if len(set(counts.values())) > 1:
            fewest, most = (choice(counts, key=counts.__getitem__) for choice in (min, max))
            raise InputError(
                f"{shown(folder)}: {counts[fewest]} renders of «{fewest}», {counts[most]} of «{most}»;"
                " every pair needs as many, or the best of them can't be compared"
            )
    return [Entry(**{**vars(entry), "renders": found[entry.key]}) for entry in entries]


def _by_key(folder: Path, keys: Set[str]) -> dict[str, tuple[Path, ...]]:
    """The audio files below a folder by the pair that they render, draws in the order of their numbers."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or path.suffix.lower() not in AUDIO_SUFFIXES:
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        numbered = DRAW.fullmatch(name)
        if name in keys:
            key, draw = name, -1
        elif numbered and numbered["key"] in keys:
            key, draw = numbered["key"], int(numbered["draw"])
        else:
            raise InputError(f"{shown(path)}: renders no pair of the set; it is named after a key, as KEY or KEY_00")
        draws = found.setdefault(key, [])
        if draws and (draw == -1 or draws[0][0] == -1 or draw in dict(draws)):
            raise InputError(f"{shown(path)}: another file renders the same: KEY alone, or each KEY_NN once")
        draws.append((draw, path))
    return {key: tuple(path for _, path in sorted(draws)) for key, draws in found.items()}
