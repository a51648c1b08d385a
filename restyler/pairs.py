"""Which recordings belong together: a folder of pairs → a list of `Pair`, matched by key, never by position."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio.errors import InputError
from restyler.command import is_utf8

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Pair:
    """One raw take and one mix of it.

    key: names the take; its mixes share it. style: a name the model learns. chain: mixes of one chain sound alike.
    """

    key: str
    raw: Path
    mix: Path
    split: str
    style: str | None = None
    chain: str | None = None


def read_pairs(
    folder: Path, *, validation_fraction: float, needed: Sequence[str] = ("train", "validation")
) -> list[Pair]:
    """All pairs of a folder, sorted by key and mix.

    With FOLDER/pairs.jsonl: one JSON object a line with the keys `key`, `raw`, `mix` (paths relative to the folder),
    and optionally `split`, `style`, `chain`; other columns are for people. Without it: FOLDER/raw/X.* belongs to
    FOLDER/mix/X.*, and X is the key. A pair without a given split goes to validation or training by a hash of its
    key: with all mixes of its take, and for good, whatever else is added.

    needed: splits that must not be empty.

    Raises InputError for a missing folder, a malformed row, a mix given twice, one take in two splits (by its key or
    by its file), missing files and files without a partner.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder of pairs")
    manifest = folder / "pairs.jsonl"
    pairs = list(
        _from_manifest(manifest, validation_fraction)
        if manifest.exists()
        else _from_folders(folder, validation_fraction)
    )
    refuse_leaks(pairs, Path.resolve)
    for split in needed:
        if not any(pair.split == split for pair in pairs):
            raise InputError(
                f"{folder}: none of its {len(pairs)} pairs is in the {split} split"
                f" (data.validation_fraction is {validation_fraction})"
            )
    return sorted(pairs, key=lambda pair: (pair.key, pair.mix))


def _from_manifest(manifest: Path, validation_fraction: float) -> Iterator[Pair]:
    mixes: set[Path] = set()
    splits: dict[str, str] = {}
    # Not splitlines: U+2028 and its like may stand inside a JSON string.
    for number, line in enumerate(_text(manifest).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{manifest}, line {number}"
        row = _row(line, where)
        key = row["key"]
        split = row.get("split") or split_of(key, validation_fraction)
        if splits.setdefault(key, split) != split:
            raise InputError(f"{where}: the take «{key}» is in two splits, {splits[key]} and {split}")
        raw, mix = manifest.parent / row["raw"], manifest.parent / row["mix"]
        missing = [str(path) for path in (raw, mix) if not os.path.isfile(path)]  # noqa: PTH113  (Path's raises for a name too long)
        if missing:
            raise InputError(f"{where}: there is no {' and no '.join(missing)}")
        if mix.resolve() in mixes:
            raise InputError(f"{where}: the mix {row['mix']} is given twice")
        mixes.add(mix.resolve())
        yield Pair(key, raw, mix, split, row.get("style"), row.get("chain"))


def _text(manifest: Path) -> str:
    try:
        return manifest.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"{manifest}: can't be read: {reason}") from None


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not valid JSON: {error.msg}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{where}: a number or a nesting beyond all measure") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: a row is a JSON object, not {line[:40]!r}")
    for name in ("key", "raw", "mix", "split", "style", "chain"):
        value = row.get(name)
        if isinstance(value, str) and not is_utf8(value):
            raise InputError(f"{where}: «{name}» is no Unicode text: {value!r}")
        if not (isinstance(value, str) and value) and not (value is None and name in ("split", "style", "chain")):
            raise InputError(f"{where}: «{name}» is a non-empty text, not {value!r}")
    if row.get("split") not in (None, *SPLITS):
        raise InputError(f"{where}: «split» is one of {', '.join(SPLITS)}, not {row['split']!r}")
    return row


def _from_folders(folder: Path, validation_fraction: float) -> Iterator[Pair]:
    sides = {side: _by_key(folder / side) for side in ("raw", "mix")}
    alone = [
        f"{side}/{key}"
        for side, other in (("raw", "mix"), ("mix", "raw"))
        for key in sorted(sides[side].keys() - sides[other].keys())
    ]
    if alone:
        raise InputError(f"{folder}: without a partner: {', '.join(alone)}")
    for key, raw in sides["raw"].items():
        yield Pair(key, raw, sides["mix"][key], split_of(key, validation_fraction))


def _by_key(side: Path) -> dict[str, Path]:
    if not side.is_dir():
        raise InputError(f"{side.parent}: holds neither pairs.jsonl nor the folders raw and mix")
    found: dict[str, Path] = {}
    for path in sorted(side.rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        key = path.relative_to(side).with_suffix("").as_posix()
        if key in found:
            raise InputError(f"{path} and {found[key]}: two files for the key «{key}»")
        found[key] = path
    return found


def refuse_leaks(pairs: Sequence[Pair], identity: Callable[[Path], Hashable]) -> None:
    """Raises InputError where one raw recording, told by `identity` of its file, is in two splits under two keys: what
    the model was trained on would validate it."""
    first: dict[Hashable, Pair] = {}
    for pair in pairs:
        other = first.setdefault(identity(pair.raw), pair)
        if other.split != pair.split:
            raise InputError(
                f"{pair.raw}: one recording in two splits, as «{other.key}» ({other.raw}) in {other.split} and as"
                f" «{pair.key}» in {pair.split}"
            )


def split_of(key: str, validation_fraction: float) -> str:
    """`validation` for about that fraction of all keys, by a hash of the key; else `train`."""
    return "validation" if fraction(key) < validation_fraction else "train"


def fraction(text: str) -> float:
    """A number from 0 to 1 that looks random, and is the same for a text on every machine and for ever."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64


def style_names(pairs: Sequence[Pair]) -> list[str]:
    """The styles of the training split, sorted."""
    return sorted({pair.style for pair in pairs if pair.style and pair.split == "train"})
