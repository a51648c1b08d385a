"""Which raw takes and mixes belong together: by what their names say, never by position, and never guessed."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from audio.errors import InputError
from restyler.prepare.names import Key, Name, parse
from restyler.takes import AUDIO_SUFFIXES


@dataclass(frozen=True)
class Pair:
    """One raw take and one mix of it, before anything was heard.

    key: names the pair in reports. take: names the raw take; all its mixes share it. song and singer decide the split;
    an unknown singer is None. split is None where it is left to the hash.
    """

    key: str
    take: str
    raw: Path
    mix: Path
    song: str
    singer: str | None = None
    style: str | None = None
    chain: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Leftover:
    """A file that is in no pair, and why: code is unmatched, ambiguous or not_audio."""

    path: Path
    code: str
    reason: str


@dataclass(frozen=True)
class Matched:
    pairs: tuple[Pair, ...]
    leftovers: tuple[Leftover, ...] = field(default=())


@dataclass(frozen=True)
class _File:
    path: Path
    name: Name


def _no_two_takes(one: Name, other: Name) -> bool:
    return not (one.take and other.take and one.take != other.take)


def _nested(one: Key, other: Key) -> bool:
    """Whether all words of one folder's path stand in the other's, in order."""
    short, long = sorted((one, other), key=len)
    rest = iter(long)
    return all(word in rest for word in short)


# What has to agree, from the strictest: (key, condition on what the key leaves out).
_LEVELS: tuple[tuple[Callable[[Name], Key], Callable[[Name, Name], bool]], ...] = (
    (lambda name: (name.shown.casefold(),), lambda one, other: True),
    (lambda name: (*name.folder, "/", *name.name, "/", *name.take), lambda one, other: True),
    (lambda name: (*name.folder, "/", *name.name), _no_two_takes),
    (lambda name: name.name, lambda one, other: _no_two_takes(one, other) and _nested(one.folder, other.folder)),
)


def match_folders(
    raw: Path, mix: Path, *, raw_words: Sequence[str], mix_words: Sequence[str], singer_folders: bool, out: Path
) -> Matched:
    """Pairs of the audio files under two folders, which may be one and the same.

    A mix belongs to the raw take with the same folder, name and take number; else to the only one with the same
    folder and name, where one of the two has no take number; else to the only one of that name in a folder that adds
    to, or is a part of, its own. Where more than one raw take would do, all of them and the mix are ambiguous. Several
    mixes of one take are fine.

    singer_folders: the first folder on the way to a raw take names its singer. out: a folder not to search.
    Raises InputError for a folder that is missing or can't be searched.
    """
    raws, mixes, leftovers = _sides(raw, mix, raw_words, mix_words, out)
    pairs, unmatched = _match(raws, mixes)
    shown = _unique([file for file, _ in pairs], raw)
    found = [
        Pair(
            key="",
            take=shown[file.path],
            raw=file.path,
            mix=mix_file.path,
            song="/".join([*file.name.folder, " ".join(file.name.name)]),
            singer=file.name.folders[0] if singer_folders and file.name.folders else None,
        )
        for file, mix_file in pairs
    ]
    return Matched(with_keys(found, mix), (*leftovers, *unmatched))


def with_keys(pairs: Sequence[Pair], mixes: Path) -> tuple[Pair, ...]:
    """The pairs with their keys: the take's, with the mix's name behind it where the take has several mixes.

    mixes: the folder that the mixes lie in, for mixes of one name.
    """
    of_take = Counter(pair.take for pair in pairs)
    of_name = Counter((pair.take, pair.mix.stem) for pair in pairs)

    def key(pair: Pair) -> str:
        if of_take[pair.take] == 1:
            return pair.take
        name = pair.mix.stem if of_name[pair.take, pair.mix.stem] == 1 else os.path.relpath(pair.mix, mixes)
        return f"{pair.take}/{name}"

    keyed = tuple(replace(pair, key=key(pair)) for pair in pairs)
    first: dict[str, Pair] = {}
    for pair in keyed:
        other = first.setdefault(pair.key, pair)
        if other is not pair:
            raise InputError(
                f"two pairs would be called «{pair.key}»: with {other.mix} and with {pair.mix}; rename one"
            )
    return keyed


def _sides(
    raw: Path, mix: Path, raw_words: Sequence[str], mix_words: Sequence[str], out: Path
) -> tuple[list[_File], list[_File], list[Leftover]]:
    """Raw takes, mixes, and the files that are neither. In one folder for both, a file's name has to say its side."""
    leftovers: list[Leftover] = []

    def audio(folder: Path, other: Path) -> Iterator[Path]:
        for path in _found(folder, apart=(out, other)):
            if path.suffix.lower() in AUDIO_SUFFIXES:
                yield path
            else:
                leftovers.append(Leftover(path, "not_audio", f"{path.suffix or 'no suffix'} is no audio suffix"))

    def named(folder: Path, paths: Iterable[Path], words: Sequence[str]) -> list[_File]:
        return [_File(path, parse(path.relative_to(folder), words)) for path in paths]

    if os.path.realpath(raw) != os.path.realpath(mix):
        return named(raw, audio(raw, mix), raw_words), named(mix, audio(mix, raw), mix_words), leftovers
    paths = list(audio(raw, mix))
    raws, mixes = named(raw, paths, raw_words), named(raw, paths, mix_words)
    told = [(one, other) for one, other in zip(raws, mixes, strict=True) if one.name.has_role != other.name.has_role]
    known = {one.path for one, _ in told}
    words = ", ".join((*raw_words, *mix_words))
    leftovers += [
        Leftover(path, "unmatched", f"one folder for both sides, and the name holds not one of: {words}")
        for path in paths
        if path not in known
    ]
    return (
        [one for one, _ in told if one.name.has_role],
        [other for _, other in told if other.name.has_role],
        leftovers,
    )


def _found(folder: Path, apart: Sequence[Path]) -> Iterator[Path]:
    """All visible files under a folder, sorted, without those under the folders `apart` that lie in it."""
    if not os.path.isdir(folder):  # noqa: PTH112  (Path's raises for a name too long)
        raise InputError(f"{folder}: there is no such folder")
    left_out = {os.path.realpath(place) for place in apart} - {os.path.realpath(folder)}
    seen: set[tuple[int, int]] = set()  # a folder that is reached again, by a link, was searched already
    failures: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=failures.append, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders[:] = []
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(Path(place) / name) not in left_out
        )
        yield from (Path(place) / name for name in sorted(names) if not name.startswith("."))
    if failures:
        raise InputError(f"{failures[0].filename}: can't be searched: {failures[0].strerror}")


def _match(raws: Sequence[_File], mixes: Sequence[_File]) -> tuple[list[tuple[_File, _File]], list[Leftover]]:
    twins = {file.path for file in [*_twins(raws), *_twins(mixes)]}
    reasons = dict.fromkeys(twins, "another file has the same name but for its suffix")
    levels = [(key, allowed, _grouped(raws, key)) for key, allowed in _LEVELS]
    pairs = []
    for mix in mixes:
        if mix.path in twins:
            continue
        for key, allowed, groups in levels:
            found = [raw for raw in groups.get(key(mix.name), ()) if allowed(raw.name, mix.name)]
            if found:
                break
        if len(found) == 1 and found[0].path not in twins:
            pairs.append((found[0], mix))
        elif found:
            reasons[mix.path] = f"may belong to {', '.join(str(raw.path) for raw in found)}"
            for raw in found:
                reasons.setdefault(raw.path, f"{mix.path} may belong to it or to others")
    used = {file.path for pair in pairs for file in pair}
    leftovers = []
    for files, other in ((raws, "mix"), (mixes, "raw take")):
        for file in files:
            if file.path not in used:
                reason = reasons.get(file.path)
                leftovers.append(
                    Leftover(file.path, "ambiguous", reason)
                    if reason
                    else Leftover(file.path, "unmatched", f"no {other} has this name")
                )
    return pairs, leftovers


def _grouped(files: Sequence[_File], key: Callable[[Name], Key]) -> dict[Key, list[_File]]:
    groups: dict[Key, list[_File]] = defaultdict(list)
    for file in files:
        groups[key(file.name)].append(file)
    return groups


def _twins(files: Sequence[_File]) -> list[_File]:
    """Files that differ in their suffix alone."""
    groups: dict[Path, list[_File]] = defaultdict(list)
    for file in files:
        groups[file.path.with_suffix("")].append(file)
    return [file for group in groups.values() if len(group) > 1 for file in group]


def _unique(files: Sequence[_File], folder: Path) -> dict[Path, str]:
    """What each raw take is called: as its file without suffix and side, or as the file where two would be the same."""
    names: dict[str, set[Path]] = defaultdict(set)
    for file in files:
        names[file.name.shown].add(file.path)
    return {
        path: shown if len(paths) == 1 else path.relative_to(folder).as_posix()
        for shown, paths in names.items()
        for path in paths
    }
