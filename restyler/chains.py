"""Effect chains in YAML: named styles, each a list of parts whose parameters are values or distributions.

docs/chains.md describes the language. Everything is checked when a file is read, against what the real parts declare.
"""

from __future__ import annotations

import glob
import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audio import io
from audio.errors import InputError
from audio.external import EXTERNAL, external_part
from audio.parts import PARTS, PLUGIN, ProgramStep, Step, find_part
from audio.parts_kinds import SEED_LIMIT, AudioFile, Parameter, Part, Seed, Value, unknown
from audio.parts_plugin import plugin_part
from restyler.chain_files import identity, require_utf8
from restyler.chain_tables import Table, read_number_table, read_preset_table
from restyler.chain_values import Among, Distribution, checked, read_value
from restyler.yamltree import parse

PRESET = "preset"  # the part whose values are one row of a table of presets
PRESET_TABLE = "preset: "  # before the name of a table that is read as presets
STYLE_NAME = re.compile(r"\w[\w -]{0,39}")
MAX_PARTS = 64


@dataclass(frozen=True)
class Column:
    """A parameter that is read from the row that a mix draws of a table. table: as the file names it."""

    table: str
    name: str


@dataclass(frozen=True)
class StylePart:
    """One part of a style. path: of a plugin. preset: the table that all values are a row of, as the file names it.

    named: of a part that another program runs, the filter, effect, plugin or URI.
    """

    name: str
    values: Mapping[str, Distribution | Column]
    path: str | None = None
    preset: str | None = None
    named: str | None = None


@dataclass(frozen=True)
class Chains:
    """The styles of a file.

    tables: by the name that the file gives them. files: every recording and plugin that a part may use, by its absolute
    path, with what it is wherever it lies (`restyler.chain_files.identity`).
    """

    path: Path
    styles: Mapping[str, tuple[StylePart, ...]]
    tables: Mapping[str, Table]
    files: Mapping[str, str]

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


def read_chains(path: Path, *, text: str | None = None, allowed: Collection[str] | None = None) -> Chains:
    """Read and check a YAML file of styles; paths in it are relative to its own folder.

    text: the file's, where that does not lie at `path`, which is then only what it is called. allowed: the kinds of
    parts that it may have, where others wrote it: then it names no file or plugin either. The section `rendered` of
    settings saved beside a mix is passed over (see `restyler.chain_settings`). Raises InputError, one line with file,
    style and part, for whatever can't be drawn or rendered as it stands.
    """
    tree = read_tree_of_chains(path, text=text)
    reader = _Reader(path, allowed)
    styles: dict[str, tuple[StylePart, ...]] = {}
    for name, parts in tree["styles"].items():
        if not STYLE_NAME.fullmatch(name) or name != name.strip():
            raise InputError(f"{path}: a style has a name of letters, digits, _ and -, at most 40, not {name!r}")
        if name.casefold() in map(str.casefold, styles):
            raise InputError(f"{path}: the style «{name}» differs from another in capitals alone")
        if not isinstance(parts, list) or not 1 <= len(parts) <= MAX_PARTS:
            raise InputError(f"{path}: style «{name}» is a list of 1 to {MAX_PARTS} parts, not {_shown(parts)}")
        styles[name] = tuple(reader.part(node, f"style «{name}», part {at}") for at, node in enumerate(parts, start=1))
    return Chains(path, styles, reader.tables, reader.files)


def read_tree_of_chains(path: Path, *, text: str | None = None) -> dict[str, Any]:
    """The file, or its text, as plain values, its sections checked for their kind. Raises InputError."""
    try:
        text = path.read_text(encoding="utf-8") if text is None else text
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"{path}: the chains can't be read: {reason}") from None
    tree = parse(text, str(path))
    if not isinstance(tree, dict) or "styles" not in tree:
        raise InputError(f"{path}: a file of chains has the section «styles»")
    for name in tree:
        if name not in ("styles", "rendered"):
            raise InputError(f"{path}: no section is called {unknown(name, ('styles', 'rendered'))}")
    styles = tree["styles"]
    if not isinstance(styles, dict) or not styles or not all(isinstance(name, str) for name in styles):
        raise InputError(f"{path}: «styles» has names with a list of parts each, not {_shown(styles)}")
    return tree


@dataclass
class _Reader:
    """Reads the parts of one file; each table, recording and plugin once. allowed: as in `read_chains`."""

    file: Path
    allowed: Collection[str] | None = None
    tables: dict[str, Table] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    plugins: dict[str, Part] = field(default_factory=dict)

    def part(self, node: Any, place: str) -> StylePart:
        if not isinstance(node, dict) or len(node) != 1:
            raise InputError(f"{self.file}: {place}: a part is one name with its parameters, not {_shown(node)}")
        ((name, given),) = node.items()
        given = {} if given is None else given
        if not isinstance(given, dict):
            raise InputError(f"{self.file}: {place}: «{name}» has parameters by name, not {_shown(given)}")
        try:
            if self.allowed is not None and name not in self.allowed:
                raise ValueError(f"no part is called {unknown(name, self.allowed)} here")
            if name == PRESET:
                return self._preset(given)
            if name == PLUGIN:
                return self._plugin(given)
            if name in EXTERNAL:
                return self._program(name, given)
            if name not in PARTS:
                raise ValueError(f"no part is called {unknown(name, (*PARTS, PRESET, PLUGIN, *EXTERNAL))}")
            return self._built_in(PARTS[name], given)
        except InputError as error:  # of a file, which it names itself
            raise InputError(f"{self.file}: {place}: {error}") from None
        except ValueError as error:
            raise InputError(f"{self.file}: {place} ({name}): {error}") from None

    def _built_in(self, part: Part, given: dict[str, Any]) -> StylePart:
        values = {name: self._value(node, part.parameter(name)) for name, node in given.items()}
        return StylePart(part.name, _all_of(part, values))

    def _preset(self, given: dict[str, Any]) -> StylePart:
        _only(given, ("table",))
        name = _text(given.get("table"), "table is the path of a decoded.csv of presets")
        key = f"{PRESET_TABLE}{name}"
        if key not in self.tables:
            self.tables[key] = read_preset_table(self._path(name))
        return StylePart("vocal_chain", {}, preset=key)

    def _plugin(self, given: dict[str, Any]) -> StylePart:
        _only(given, ("path", "parameters"))
        path = self._plugin_path(given)
        _ = _parameters_of(given)  # refused before the plugin is loaded
        if path not in self.plugins:
            self.plugins[path] = plugin_part(path)
            self.files[path] = identity(Path(path))
        return StylePart(PLUGIN, self._parameters(given, self.plugins[path]), path)

    def _program(self, kind: str, given: dict[str, Any]) -> StylePart:
        keys = EXTERNAL[kind]
        _only(given, (*keys, "parameters"))
        path = self._plugin_path(given) if "path" in keys else None
        name = keys[-1]
        named = None if path and name not in given else _text(given.get(name), f"{name} is a name, see `rack --list`")
        part = external_part(kind, named, path)
        if path and path not in self.files:
            self.files[path] = identity(Path(path))
        return StylePart(kind, _all_of(part, self._parameters(given, part)), path, named=named)

    def _plugin_path(self, given: dict[str, Any]) -> str:
        path = self._path(_text(given.get("path"), "path is that of a plugin"))
        return str(path.parent.resolve() / path.name)

    def _parameters(self, given: dict[str, Any], part: Part) -> dict[str, Distribution | Column]:
        return {name: self._value(node, part.parameter(name)) for name, node in _parameters_of(given).items()}

    def _value(self, node: Any, parameter: Parameter) -> Distribution | Column:
        if isinstance(parameter, AudioFile):
            return self._files(node, parameter)
        if isinstance(node, dict) and "table" in node:
            return self._column(node, parameter)
        return read_value(node, parameter)

    def _column(self, node: dict[str, Any], parameter: Parameter) -> Column:
        _only(node, ("table", "column"))
        name = _text(node["table"], f"{parameter.name}: table is the path of a CSV file")
        if name not in self.tables:
            self.tables[name] = read_number_table(self._path(name))
        table = self.tables[name]
        column = node.get("column")
        if not isinstance(column, str) or column not in table.rows[0]:
            raise ValueError(f"{parameter.name}: {name} has no column of numbers {unknown(column, table.rows[0])}")
        for line, row in enumerate(table.rows, start=2):
            try:
                parameter.check(row[column])
            except ValueError as error:
                raise ValueError(f"{name}, line {line}, column {column}: {error}") from None
        return Column(name, column)

    def _files(self, node: Any, parameter: AudioFile) -> Distribution:
        self._require_files()
        if isinstance(node, dict) and list(node) == ["files"]:
            pattern = _text(node["files"], f"{parameter.name}: files is a pattern like rooms/*.wav")
            names = sorted(glob.glob(pattern, root_dir=self.file.parent, recursive=True))  # noqa: PTH207  (Path's has no absolute patterns)
            if not names:
                raise ValueError(f"{parameter.name}: no file is like {pattern}")
            found: Distribution = Among(tuple(names))
        else:
            found = read_value(node, parameter)
        paths = [self._path(str(name)).resolve() for name in found.extremes]
        for path in paths:
            if str(path) not in self.files:
                require_utf8(path, str(path))
                io.require_signal(io.read(path), path)
                self.files[str(path)] = identity(path)
        return checked(Among(tuple(map(str, paths))), parameter)

    def _path(self, name: str) -> Path:
        self._require_files()
        return self.file.parent / name

    def _require_files(self) -> None:
        if self.allowed is not None:
            raise ValueError("a chain names no files here")


def _all_of(part: Part, values: dict[str, Distribution | Column]) -> dict[str, Distribution | Column]:
    for parameter in part.parameters if part.fills_in else ():
        if parameter.name not in values and parameter.default is None and not isinstance(parameter, Seed):
            raise ValueError(f"{part.name} needs {parameter.name}: {parameter.allowed()}")
    return values


def _parameters_of(given: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {} if given.get("parameters") is None else given["parameters"]
    if not isinstance(parameters, dict):
        raise ValueError(f"parameters are given by name, not as {_shown(parameters)}")
    return parameters


def _only(given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"there is no {unknown(name, known)} here")


def _text(value: Any, wanted: str) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{wanted}, not {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
