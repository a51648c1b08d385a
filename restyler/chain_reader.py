"""The parts of a chain as YAML has them → checked against what the real parts declare; see `restyler.chains`."""

from __future__ import annotations

import glob
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audio import io
from audio.errors import InputError
from audio.external import EXTERNAL, external_part
from audio.parts import PARTS, PLUGIN
from audio.parts_kinds import AudioFile, Parameter, Part, Seed, unknown
from audio.parts_plugin import plugin_part
from restyler.chain_files import identity, require_utf8
from restyler.chain_tables import Table, read_number_table, read_preset_table
from restyler.chain_values import Among, Distribution, checked, read_value

PRESET = "preset"  # the part whose values are one row of a table of presets
PRESET_TABLE = "preset: "  # before the name of a table that is read as presets


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


@dataclass
class PartReader:
    """Reads the parts of one file; each table, recording and plugin once. file: that its paths are relative to.
    allowed: as in `restyler.chains.read_chains`.
    """

    file: Path
    allowed: Collection[str] | None = None
    tables: dict[str, Table] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    plugins: dict[str, Part] = field(default_factory=dict)

    def part(self, node: Any, place: str) -> StylePart:
        """place: of the part in its file, for messages. Raises InputError."""
        if not isinstance(node, dict) or len(node) != 1:
            raise InputError(f"{self.file}: {place}: a part is one name with its parameters, not {brief(node)}")
        ((name, given),) = node.items()
        given = {} if given is None else given
        if not isinstance(given, dict):
            raise InputError(f"{self.file}: {place}: «{name}» has parameters by name, not {brief(given)}")
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
        raise ValueError(f"parameters are given by name, not as {brief(parameters)}")
    return parameters


def _only(given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"there is no {unknown(name, known)} here")


def _text(value: Any, wanted: str) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{wanted}, not {brief(value)}")
    return value


def brief(value: Any) -> str:
    """A value as messages show it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
