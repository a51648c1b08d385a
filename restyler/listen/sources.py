"""Which file is which condition of which item: paired by key, never by position."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audio.errors import InputError
from restyler.command import shown
from restyler.evaluate.evaluation_set import DRAW, read_set
from restyler.evaluate.walk import RENDERS
from restyler.listen.spec import RESERVED, Spec, below
from restyler.takes import AUDIO_SUFFIXES

MIX_OF_TAKE = re.compile(r"(?P<key>[^/]+)/mix_(?P<draw>\d+)")  # as `restyler sample` names them
OWN = (
    "raw",
    "reference",
    "mix",
)  # folders of the spec that are no systems; the first one given says what the items are


@dataclass(frozen=True)
class Item:
    """files: by condition, with "raw", "reference" and "mix" where they are given."""

    key: str
    files: Mapping[str, Path]


Draws = dict[int | None, Path]  # a file without a number under None


def find_items(spec: Spec, base: Path) -> tuple[list[str], list[Item]]:
    """The systems by name, and the items by key with a file of every condition.

    base: the spec's folder; its paths are relative to it. Raises InputError for a folder that is missing or empty, a
    file that belongs to no item, an item without a file of a condition, and one with two.
    """
    own = {name: below(base, folder) for name in OWN if (folder := getattr(spec, name)) is not None}
    found: dict[str, dict[str, Path]] = _pairs_of_set(spec, base) | {name: _alone(place) for name, place in own.items()}
    keys = list(spec.items or (next(iter(found.values())) if found else ()))
    systems: dict[str, dict[str, Path]] = {}
    for name, folder in spec.conditions.items():
        place = below(base, folder)
        if not keys or "*" in folder:
            systems[name] = _alone(place)
        else:
            systems[name] = {key: _drawn(draws, key, spec.draw, place) for key, draws in _draws(place, keys).items()}
    for name, place in _rows(spec, base):
        if name in systems or name in RESERVED:
            raise InputError(
                f"evaluate: the row «{shown(name)}» has the name of another condition; name the rows wanted"
            )
        draws_of = _draws(place, keys or _numbered(place))
        systems[name] = {key: _drawn(draws, key, spec.draw, place) for key, draws in draws_of.items()}
    if spec.variations is not None:
        place = below(base, spec.variations)
        systems |= _variations(place, _draws(place, keys or _numbered(place)), systems)
    keys = keys or list(next(iter(systems.values())))
    everything = {**found, **systems}
    for name, files in everything.items():
        missing = [key for key in keys if key not in files]
        if missing:
            raise InputError(
                f"«{shown(name)}» has no file of «{shown(missing[0])}» ({len(missing)} of {len(keys)} are missing;"
                " «items» names fewer)"
            )
        further = sorted(set(files) - set(keys))
        if further and spec.items is None:
            raise InputError(f"{shown(files[further[0]])}: belongs to no item; «items» names those that are wanted")
    items = [Item(key, {name: files[key] for name, files in everything.items()}) for key in sorted(keys)]
    return list(systems), items


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The audio files below a folder, by their path without the suffix."""
    if not folder.is_dir():
        raise InputError(f"{shown(folder)}: there is no such folder")
    count = 0
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".") and path.is_file():
            count += 1
            yield path.relative_to(folder).with_suffix("").as_posix(), path
    if not count:
        raise InputError(f"{shown(folder)}: holds no audio files")


def _alone(place: Path) -> dict[str, Path]:
    """One file a key: KEY.* of a folder, or what the only * of a pattern stands for."""
    if "*" not in str(place):
        found: dict[str, Path] = {}
        for key, path in _files(place):
            if key in found:
                raise InputError(f"{shown(path)} and {shown(found[key])}: two files of «{shown(key)}»")
            found[key] = path
        return found
    if str(place).count("*") != 1:
        raise InputError(f"{shown(place)}: a pattern has one *, which stands for the item")
    shape = re.compile("([^/]+)".join(re.escape(part) for part in place.as_posix().split("*")))
    root = Path(place.anchor or ".")
    paths = sorted(root.glob(place.relative_to(place.anchor).as_posix()))
    matched = {match[1]: path for path in paths if (match := shape.fullmatch(path.as_posix()))}
    if not matched:
        raise InputError(f"{shown(place)}: no file fits this pattern")
    return matched


def _draws(folder: Path, keys: Sequence[str]) -> dict[str, Draws]:
    """KEY.*, KEY_00.* and KEY/mix_00.* of a folder by key and number. Others stand under their own names."""
    known, found = set(keys), dict[str, Draws]()
    for name, path in _files(folder):
        match = DRAW.fullmatch(name) or None
        of_take = MIX_OF_TAKE.fullmatch(name)
        if name in known:
            key, number = name, None
        elif of_take and of_take["key"] in known:
            key, number = of_take["key"], int(of_take["draw"])
        elif match and match["key"] in known:
            key, number = match["key"], int(match["draw"])
        else:
            key, number = name, None
        draws = found.setdefault(key, {})
        if number in draws or (draws and None in (number, *draws)):
            raise InputError(f"{shown(path)}: another file is the same: KEY alone, or each KEY_NN once")
        draws[number] = path
    return found


def _numbered(folder: Path) -> list[str]:
    """The keys of a folder whose files are all draws."""
    matches = [MIX_OF_TAKE.fullmatch(name) or DRAW.fullmatch(name) for name, _ in _files(folder)]
    return sorted({match["key"] for match in matches if match})


def _drawn(draws: Draws, key: str, wanted: int, place: Path) -> Path:
    path = draws.get(None) or draws.get(wanted)
    if path is None:
        there = ", ".join(str(number) for number in sorted(number for number in draws if number is not None))
        raise InputError(f"{shown(place)}: no draw {wanted} of «{shown(key)}» (there are: {there}); see «draw»")
    return path


def _variations(place: Path, draws_of: Mapping[str, Draws], taken: Mapping[str, object]) -> dict[str, dict[str, Path]]:
    counts = {key: sorted(number for number in draws if number is not None) for key, draws in draws_of.items()}
    first = next(iter(counts))
    for key, numbers in counts.items():
        if not numbers:
            raise InputError(f"{shown(place)}: «{shown(key)}» has no number; variations are KEY_00.* or KEY/mix_00.*")
        if numbers != counts[first]:
            raise InputError(
                f"{shown(place)}: {len(numbers)} variations of «{shown(key)}», {len(counts[first])} of"
                f" «{shown(first)}», or with other numbers; every take needs the same"
            )
    names = {number: f"variation_{number:02d}" for number in counts[first]}
    for name in names.values():
        if name in taken:
            raise InputError(f"conditions: «{name}» is the name of a variation; name the system otherwise")
    return {name: {key: draws[number] for key, draws in draws_of.items()} for number, name in names.items()}


def _pairs_of_set(spec: Spec, base: Path) -> dict[str, dict[str, Path]]:
    """Raw takes and mixes (as references too, where asked) of the pairs that were evaluated, by key; nothing where
    the spec names no set."""
    if spec.evaluate is None or spec.evaluate.set is None:
        return {}
    report, folder = below(base, spec.evaluate.folder) / "report.json", below(base, spec.evaluate.set)
    try:
        document = json.loads(report.read_text(encoding="utf-8"))
        split, keys = str(document["settings"]["split"]), [str(pair["key"]) for pair in document["pairs"]]
    except OSError as error:
        raise InputError(f"{shown(report)}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{shown(report)}: is no report of an evaluation") from error
    entries = {entry.key: entry for entry in read_set(folder, split)}
    for key in keys:
        if key not in entries:
            raise InputError(f"{shown(folder)}: has no pair «{shown(key)}», which was evaluated: is it another set?")
    raw, mix = {key: entries[key].raw for key in keys}, {key: entries[key].mix for key in keys}
    return {"raw": raw, "mix": mix} | ({"reference": mix} if spec.evaluate.reference else {})


def _rows(spec: Spec, base: Path) -> list[tuple[str, Path]]:
    if spec.evaluate is None:
        return []
    renders = below(base, spec.evaluate.folder) / RENDERS
    if not renders.is_dir():
        raise InputError(f"{shown(renders)}: there is no such folder; evaluate with --keep-renders")
    there = sorted(path.name for path in renders.iterdir() if path.is_dir())
    rows = [row.replace("/", "_") for row in spec.evaluate.rows or there]
    for row in rows:
        if row not in there:
            raise InputError(f"{shown(renders)}: no renders of the row «{shown(row)}» (there are: {', '.join(there)})")
    return [(row, renders / row) for row in rows]
