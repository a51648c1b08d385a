"""A job's fields, made from the options of `restyler sample`: an option that it gets is one that jobs have."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from restyler.command import Range
from restyler.sample import parser
from restyler.sample_plan import CHAINS

# Not a job's: the service says these, or has its own way.
ELSEWHERE = frozenset({"help", "takes", "out", "overwrite", "model", "batch", "device", "report", "timing", "stems"})
OWN = frozenset({"like", "reference", "control", *CHAINS})  # files and assignments: a job says them in its own way
RENAMED = {"peak": "peak_dbtp"}  # fields carry their unit
LONGEST_TEXT = 200


def options() -> Iterator[argparse.Action]:
    """The options of `restyler sample` that are a job's fields as they are."""
    for action in parser()._actions:
        if action.dest not in ELSEWHERE | OWN and _kind(action) is not None:
            yield action


def field_names() -> dict[str, str]:
    """Of every option that a job has, without its --, the field's name."""
    plain = {name.removeprefix("--"): _field_name(action) for action in options() for name in action.option_strings}
    return plain | {"like": "like", "reference": "reference", "control": "controls"} | {name: name for name in CHAINS}


def fields() -> dict[str, Any]:
    """By name, as `pydantic.create_model` takes them; what is not given is None, or false for a switch."""
    found: dict[str, Any] = {}
    for action in options():
        kind, help_text = _kind(action), (action.help or "").replace("%(default)s", str(action.default))
        if action.nargs == 0:
            found[_field_name(action)] = (bool, Field(default=False, description=help_text))
        else:
            found[_field_name(action)] = (kind | None, Field(default=None, description=help_text))
    return found


def arguments(values: Mapping[str, Any]) -> list[str]:
    """What stands for these fields on the command line."""
    found = []
    for action in options():
        value, name = values.get(_field_name(action)), action.option_strings[0]
        if action.nargs == 0:
            found += [name] if value else []
        elif isinstance(value, Sequence) and not isinstance(value, str):
            found += [name, *map(str, value)]
        elif value is not None:
            found.append(f"{name}={value}")  # in one: a text that begins with - stays a value
    return found


def _field_name(action: argparse.Action) -> str:
    return RENAMED.get(action.dest, action.dest)


def _whole(value: Any) -> Any:
    """JSON knows one kind of number: 4.0 is a whole one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _kind(action: argparse.Action) -> Any:
    """The type of an option's field; None for a kind of option that a job can't have, as a file of the server's."""
    if action.nargs == 0:
        return bool
    limits: dict[str, Any] = {}
    kind: Any = action.type
    if isinstance(kind, Range):
        kind, limits = kind.kind, {"ge": kind.lowest, "le": kind.highest}
    if action.choices is not None:
        kind = Literal[tuple(action.choices)]
    elif kind is int:
        kind = Annotated[int, Field(strict=True, **limits), BeforeValidator(_whole)]
    elif kind is float:
        kind = Annotated[float, Field(strict=True, allow_inf_nan=False, **limits)]
    elif kind in (str, None):
        kind = Annotated[str, Field(strict=True, min_length=1, max_length=LONGEST_TEXT)]
    else:
        return None
    if isinstance(action.nargs, int):
        return Annotated[list[kind], Field(min_length=action.nargs, max_length=action.nargs)]
    return kind if action.nargs is None and not isinstance(action, argparse._AppendAction) else None
