"""Effect chains in YAML: named styles, each a list of parts whose parameters are values or distributions.

docs/chains.md describes the language. Everything is checked when a file is read, against what the real parts declare.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio.errors import InputError
from audio.external import EXTERNAL, external_part
from audio.parts import ProgramStep, Step, find_part
from audio.parts_kinds import SEED_LIMIT, Seed, Value, unknown
from restyler.chain_reader import PRESET_TABLE, Column, PartReader, StylePart, brief
from restyler.chain_tables import Table
from restyler.yamltree import parse

STYLE_NAME = re.compile(r"\w[\w -]{0,39}")
MAX_PARTS = 64
MOST_EVERY = 64


@dataclass(frozen=True)
class Chains:
    """The styles of a file.

    tables: by the name that the file gives them. files: every recording and plugin that a part may use, by its absolute
    path, with what it is wherever it lies (`restyler.chain_files.identity`). every: one of so many mixes hears
    the styles as buses (`restyler.sends`).
    """

    path: Path
    styles: Mapping[str, tuple[StylePart, ...]]
    tables: Mapping[str, Table]
    files: Mapping[str, str]
    every: int = 1

    def draw(self, style: str, number: int, *, key: str, seed: int, is_test: bool) -> tuple[Step, ...]:
        """The chain of mix `number` of a take in a style, every value fixed.

        It follows from the arguments and the style alone. Each parameter has its own draw, so that one more, or one
        less, leaves the others as they were; all columns of one table are read from one row.
        """
        purpose = (seed, key, style, number)
        rows = {
            name: table.row(share(*purpose, "row", name.removeprefix(PRESET_TABLE)), is_test=is_test)
            for name, table in self.tables.items()
            if any(name in _tables_of(part) for part in self.styles[style])
        }
        steps: list[Step] = []
        for part, place in _numbered(self.styles[style]):
            values: dict[str, Value] = dict(rows[part.preset]) if part.preset else {}
            for name, source in part.values.items():
                if isinstance(source, Column):
                    values[name] = rows[source.table][source.name]
                else:
                    values[name] = source.at(share(*purpose, place, name))
            if part.name in EXTERNAL:
                values = external_part(part.name, part.named, part.path).checked(values)
                steps.append(ProgramStep(part.name, values, part.path, part.named))
                continue
            if part.path is None:
                declared = find_part(part.name)
                if Seed() in declared.parameters and Seed.name not in part.values:
                    values[Seed.name] = int(share(*purpose, place, Seed.name) * SEED_LIMIT)
                values = declared.checked(values)
            steps.append(Step(part.name, values, part.path))
        return tuple(steps)


def share(*purpose: int | str) -> float:
    """A number 0 ≤ u < 1 that follows from `purpose` alone."""
    return (int.from_bytes(hashlib.sha256(repr(purpose).encode()).digest()[:8], "big") >> 11) / 2**53


def _tables_of(part: StylePart) -> set[str]:
    read = {source.table for source in part.values.values() if isinstance(source, Column)}
    return read | ({part.preset} if part.preset else set())


def _numbered(parts: tuple[StylePart, ...]) -> list[tuple[StylePart, str]]:
    """Each part with its place among those of its own kind: `peak 0`, `peak 1`, …"""
    seen: Counter[str] = Counter()
    found = []
    for part in parts:
        # Not the folder: a plugin that has moved is the same.
        kind = " ".join(filter(None, (Path(part.path).name if part.path else part.name, part.named)))
        found.append((part, f"{kind} {seen[kind]}"))
        seen[kind] += 1
    return found


def read_chains(
    path: Path, *, text: str | None = None, allowed: Collection[str] | None = None, buses: bool = False
) -> Chains:
    """Read and check a YAML file of styles; paths in it are relative to its own folder.

    text: the file's, where that does not lie at `path`, which is then only what it is called. allowed: the kinds of
    parts that it may have, where others wrote it: then it names no file or plugin either. buses: whether its styles are
    buses, and `every` means something. The section `rendered` of settings saved beside a mix is passed over (see
    `restyler.chain_settings`). Raises InputError, one line with file, style and part, for whatever can't be drawn or
    rendered as it stands.
    """
    tree = read_tree_of_chains(path, text=text, buses=buses)
    every = tree.get("every", 1)
    if type(every) is not int or not 1 <= every <= MOST_EVERY:
        raise InputError(f"{path}: every is a whole number from 1 to {MOST_EVERY}, not {brief(every)}")
    reader = PartReader(path, allowed)
    styles: dict[str, tuple[StylePart, ...]] = {}
    for name, parts in tree["styles"].items():
        if not STYLE_NAME.fullmatch(name) or name != name.strip():
            raise InputError(f"{path}: a style has a name of letters, digits, _ and -, at most 40, not {name!r}")
        if name.casefold() in map(str.casefold, styles):
            raise InputError(f"{path}: the style «{name}» differs from another in capitals alone")
        if not isinstance(parts, list) or not 1 <= len(parts) <= MAX_PARTS:
            raise InputError(f"{path}: style «{name}» is a list of 1 to {MAX_PARTS} parts, not {brief(parts)}")
        styles[name] = tuple(reader.part(node, f"style «{name}», part {at}") for at, node in enumerate(parts, start=1))
    return Chains(path, styles, reader.tables, reader.files, every)


def read_tree_of_chains(path: Path, *, text: str | None = None, buses: bool = False) -> dict[str, Any]:
    """The file, or its text, as plain values, its sections checked for their kind. Raises InputError."""
    try:
        text = path.read_text(encoding="utf-8") if text is None else text
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"{path}: the chains can't be read: {reason}") from None
    tree = parse(text, str(path))
    if not isinstance(tree, dict) or "styles" not in tree:
        raise InputError(f"{path}: a file of chains has the section «styles»")
    sections = ("styles", "rendered", *(("every",) if buses else ()))
    if "every" in tree and not buses:
        raise InputError(f"{path}: «every» is said of buses (--reverb) alone")
    for name in tree:
        if name not in sections:
            raise InputError(f"{path}: no section is called {unknown(name, sections)}")
    styles = tree["styles"]
    if not isinstance(styles, dict) or not styles or not all(isinstance(name, str) for name in styles):
        raise InputError(f"{path}: «styles» has names with a list of parts each, not {brief(styles)}")
    return tree
