"""Which takes are restyled and where their mixes go: all of it checked before the first mix is made."""
# ruff: noqa: PTH110, PTH112, PTH113
# Path.exists and its kin raise for a name that is too long or a folder that may not be searched; those of os.path say
# no, and the one clear line comes from whoever opens the file.

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from audio.errors import InputError
from audio.io import make_folder, read, require_signal
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from restyler.command import QUIETEST_LUFS, shown

# What a folder of takes is searched for; a file named directly may have any suffix.
AUDIO_SUFFIXES = frozenset(
    {".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".w64"}
    | {".wav", ".wave"}
)


@dataclass(frozen=True)
class Take:
    """path: the recording. mixes: the files to be written, one per seed, all in one folder named after the take."""

    path: Path
    mixes: tuple[Path, ...]


def find_takes(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Files as they are, folders as the audio files directly in them → takes, and the files passed over in folders.

    Hidden files in folders are not mentioned. Raises InputError for a folder without audio.
    """
    takes: list[Path] = []
    others: list[Path] = []
    for path in paths:
        if not os.path.isdir(path):
            takes.append(path)
            continue
        try:
            files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        except OSError as error:
            raise InputError(f"{shown(path)}: cannot be read: {error.strerror}") from error
        found = [file for file in files if file.suffix.lower() in AUDIO_SUFFIXES]
        if not found:
            raise InputError(f"{shown(path)}: a folder without audio files ({' '.join(sorted(AUDIO_SUFFIXES))})")
        takes += found
        others += [file for file in files if file not in found]
    return takes, others


def read_take(path: Path, sample_rate: int) -> Waveform:
    """A take or reference that can be restyled, at the model's sample rate: what lies above its band is no signal.

    Raises InputError for what `audio.io.read` refuses, and for what is silent or quieter than −60 LUFS.
    """
    waveform = read(path)
    require_signal(waveform, path)
    waveform = waveform.resampled(sample_rate)
    loudness_lufs = integrated_loudness_lufs(waveform)
    if loudness_lufs < QUIETEST_LUFS:
        found = "silent: below -70 LUFS" if loudness_lufs == -math.inf else f"too quiet: {loudness_lufs:.1f} LUFS"
        raise InputError(f"{shown(path)}: {found}; at least {QUIETEST_LUFS} LUFS needed")
    return waveform


def plan(
    paths: Sequence[Path],
    out: Path,
    *,
    variations: int,
    overwrite: bool,
    others: Mapping[Path, str],
    companions: Sequence[str] = (),
) -> list[Take]:
    """Where each take's mixes go: OUT/<stem>/mix_00.wav … companions: suffixes of other files written beside each.
    others: files that no mix may replace, beside the takes, and what they are.

    Raises InputError where two takes would share a folder, where a mix would replace a take or one of `others`, and,
    unless `overwrite`, where it would replace any file.
    """
    takes = [Take(path, tuple(out / path.stem / f"mix_{i:02d}.wav" for i in range(variations))) for path in paths]
    claimed: dict[str, Path] = {}
    kept = dict.fromkeys(paths, "a take") | dict(others)
    originals = {os.path.realpath(path): what for path, what in kept.items()}  # Path.resolve fails for a link to itself
    for take in takes:
        stem = take.path.stem
        if stem in (".", ".."):
            raise InputError(f"{shown(take.path)}: no folder can be named after this file; rename it")
        first = claimed.setdefault(stem.casefold(), take.path)  # some file systems ignore case
        if first is not take.path:
            raise InputError(
                f"{shown(first)} and {shown(take.path)} would both go to {shown(out / stem)}; "
                "rename one, or use two calls with different --out"
            )
        for mix in (path.with_suffix(suffix) for path in take.mixes for suffix in (path.suffix, *companions)):
            original = originals.get(os.path.realpath(mix))
            if original:
                raise InputError(f"{shown(mix)}: the mix would replace {original}; use another --out")
            if os.path.lexists(mix) and not (overwrite and os.path.isfile(mix)):
                raise InputError(f"{shown(mix)}: already exists; use another --out, or --overwrite")
    return takes


def refuse_foreign(out: Path, mark: str) -> None:
    """Raises InputError for what is neither a new or empty folder, nor one with the file `mark`: by it a command knows
    a folder that it began to fill."""
    try:
        foreign = os.path.lexists(out) and not (out / mark).exists() and (not out.is_dir() or any(out.iterdir()))
    except (OSError, RuntimeError) as error:
        raise InputError(f"{shown(out)}: can't be used as a folder: {error}") from None
    if foreign:
        raise InputError(f"{shown(out)}: not a new or empty folder, and not one that this command began to fill")


@contextmanager
def made_folders(folders: Sequence[Path]) -> Iterator[None]:
    """Makes the folders and tries each by a file that vanishes again; in the end, also after a failure or Ctrl-C, those
    it made that are still empty are removed.

    Raises InputError where one can't be written to.
    """
    made: list[Path] = []
    try:
        for folder in folders:
            made += [path for path in (*reversed(folder.parents), folder) if not os.path.exists(path)]
            make_folder(folder)
            try:
                with tempfile.TemporaryFile(dir=folder):
                    pass
            except OSError as error:
                raise InputError(f"{shown(folder)}: cannot be written to: {error.strerror}") from error
        yield
    finally:
        for path in reversed(made):
            with suppress(OSError):  # not empty, or never made
                path.rmdir()
