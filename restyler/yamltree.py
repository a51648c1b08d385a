"""YAML files and command-line overrides → one plain tree, before anything is validated.

PyYAML implements YAML 1.1 and has four traps for configs: `3e-4` is read as a string, `no` and `off` as booleans,
`1:30` as a base-60 integer, and the later of two equal keys wins silently. All are closed here, once, for files and
overrides alike: scalars follow the core schema of YAML 1.2 (section 10.3.2), and a repeated key is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from audio.errors import InputError

Tree = dict[str, Any]


_CORE = ("null", "bool", "int", "float", "str", "seq", "map")  # the core schema's tags; no dates, no binary


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2 scalars and without repeated keys."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}
    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (*(f"tag:yaml.org,2002:{name}" for name in _CORE), None)
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is a word", key.start_mark)
            if key.value in seen:
                problem = f"the key «{key.value}» is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(node.value)  # decimal even with leading zeros; YAML 1.1 would read 010 as 8


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def parse(text: str, source: str) -> Any:
    """YAML text → Python values. Raises InputError that names the source and the line."""
    try:
        value = yaml.load(text, Loader=_Loader)
        # Refuses what a config can't hold: half a surrogate pair, and a section inside itself by a recursive alias.
        json.dumps(value, ensure_ascii=False).encode()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise InputError(f"{source}{line}: not valid YAML: {problem}") from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:  # a tag on what it can't stand for, `!!int x`
        raise InputError(f"{source}: not valid YAML: {type(error).__name__}: {error}") from None
    return value


def merge(base: Tree, change: Tree) -> Tree:
    """`change` laid over `base`, section by section. A section that names another `kind` starts afresh."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and value.get("kind", old.get("kind")) == old.get("kind"):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def read_tree(path: Path, *, _chain: tuple[Path, ...] = ()) -> Tree:
    """A YAML file with its `extends: other.yaml` (relative to the file) resolved.

    Raises InputError for a file that is missing, not a mapping, or part of a loop of `extends`.
    """
    resolved = path.resolve()
    if resolved in _chain:
        loop = " → ".join(step.name for step in (*_chain[_chain.index(resolved) :], resolved))
        raise InputError(f"{path}: «extends» goes round in a circle: {loop}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"{path}: the config can't be read: {reason}") from None
    tree = parse(text, str(path))
    if not isinstance(tree, dict):
        raise InputError(f"{path}: a config is a mapping of keys, not {type(tree).__name__}")
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    if not isinstance(parent, str):
        raise InputError(f"{path}: «extends» names one file, not {parent!r}")
    return merge(read_tree(path.parent / parent, _chain=(*_chain, resolved)), tree)


def override_tree(overrides: Sequence[str]) -> Tree:
    """`["optim.lr=3e-4", …]` → {"optim": {"lr": 0.0003}}; values are YAML. Raises InputError."""
    tree: Tree = {}
    for text in overrides:
        dotted, equals, value = text.partition("=")
        keys = dotted.split(".")
        if not equals or not all(keys):
            raise InputError(f"{text}: an override looks like key=value or section.key=value")
        place = tree
        for key in keys[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise InputError(f"{text}: «{key}» is given twice, as a value and as a section")
        if keys[-1] in place:
            raise InputError(f"{text}: «{dotted}» is given twice")
        place[keys[-1]] = parse(value, text)
    return tree
