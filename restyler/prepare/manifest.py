"""Pairs from a table that the user wrote: CSV or JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from audio.errors import InputError
from restyler.command import is_utf8
from restyler.pairs import SPLITS
from restyler.prepare.matching import Pair, with_keys

NEEDED = ("raw", "mix")
OPTIONAL = ("key", "song", "singer", "style", "chain", "split")
COLUMNS = (*NEEDED, *OPTIONAL)
Row = dict[str, str]


def read_manifest(path: Path) -> tuple[Pair, ...]:
    """One pair a row: the columns raw and mix, relative to the table's folder, and where known key (of the raw take),
    song, singer, style, chain and split; other columns are for people. A raw take without a key is called as its file,
    a song that is not told is the take's key.

    Raises InputError for a table that can't be read, a row without raw or mix, an unknown split, one mix given
    twice, and one key for two raw files or two keys for one.
    """
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: a manifest ends in {' or '.join(readers)}")
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets begin a CSV with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"{path}: can't be read: {reason}") from None
    pairs: list[Pair] = []
    keys: dict[Path, str] = {}
    files: dict[str, Path] = {}
    mixes: dict[Path, str] = {}
    for where, row in readers[path.suffix.lower()](text, path):
        for column in row:
            meant = column.strip().casefold()
            if column not in COLUMNS and meant in COLUMNS:
                raise InputError(f"{where}: the column «{column}» is spelled «{meant}»")
        for column in NEEDED:
            if not row.get(column):
                raise InputError(f"{where}: the column «{column}» is missing or empty")
            if "\0" in row[column] or not Path(row[column]).name:
                raise InputError(f"{where}: «{column}» is no path of a file: {row[column]!r}")
        if row.get("split") not in (None, *SPLITS):
            raise InputError(f"{where}: «split» is one of {', '.join(SPLITS)}, not {row['split']!r}")
        raw, mix = path.parent / row["raw"], path.parent / row["mix"]
        take = row.get("key") or keys.get(raw) or Path(row["raw"]).with_suffix("").as_posix()
        if keys.setdefault(raw, take) != take:
            raise InputError(f"{where}: {row['raw']} has two keys, «{keys[raw]}» and «{take}»")
        if files.setdefault(take, raw) != raw:
            raise InputError(f"{where}: two raw files are called «{take}», {files[take]} and {raw}; give them keys")
        if mix in mixes:
            raise InputError(f"{where}: the mix {row['mix']} is already in {mixes[mix].rpartition(', ')[2]}")
        mixes[mix] = where
        facts = {column: row.get(column) for column in ("singer", "style", "chain", "split")}
        pairs.append(Pair("", take, raw, mix, row.get("song") or take, **facts))
    if not pairs:
        raise InputError(f"{path}: holds no pairs")
    return with_keys(pairs, path.parent)


def _csv_rows(text: str, path: Path) -> Iterator[tuple[str, Row]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise InputError(f"{where}: not as many fields as the first line has")
            yield where, {name: value.strip() for name, value in row.items() if value.strip()}
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not valid CSV: {error}") from None


def _jsonl_rows(text: str, path: Path) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise InputError(f"{where}: not valid JSON") from None
        if not isinstance(row, dict):
            raise InputError(f"{where}: a row is a JSON object, not {line[:40]!r}")
        told = {name: value for name, value in row.items() if value is not None}
        for name, value in told.items():
            if name.strip().casefold() not in COLUMNS:  # for people
                continue
            if not isinstance(value, str) or not value:
                raise InputError(f"{where}: «{name}» is a non-empty text, not {value!r}")
            if not is_utf8(value):
                raise InputError(f"{where}: «{name}» is no Unicode text: {value!r}")
        yield where, told
