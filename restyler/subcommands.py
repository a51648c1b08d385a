"""A command of several, like `restyler listen design`: finds the one that is meant and hands the arguments over."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence


def run(name: str, commands: Mapping[str, tuple[str, str]], argv: Sequence[str] | None, *, guide: str) -> int:
    """The exit code of the subcommand, which `argv` (None: the program's own arguments) begins with.

    name: as in `restyler NAME`. commands: the module of each, with `main` and `parser`, and what it does, in words;
    none is imported before it is needed. guide: the file that leads through all. Raises InputError for one that there
    is not.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    match arguments:
        case ["--help" | "-h"]:
            print(_usage(name, commands, guide))
            raise SystemExit(0)
        case [one, *rest] if one in commands:
            return int(importlib.import_module(commands[one][0]).main(rest))
    from audio.errors import InputError  # not at the top: it waits for torch

    given = f"unknown command {arguments[0]!r}" if arguments else "no command given"
    raise InputError(f"{given} (allowed: {', '.join(commands)}; see restyler {name} --help)")


def _usage(name: str, commands: Mapping[str, tuple[str, str]], guide: str) -> str:
    """What all subcommands are called with, from their own parsers."""
    lines = [f"usage: restyler {name} COMMAND …", ""]
    for one, (module, what) in commands.items():
        parser = importlib.import_module(module).parser()
        lines += [f"  {one:<10}{what}", *(f"    {line}" for line in parser.format_usage().splitlines()), ""]
    return "\n".join([*lines, f"`restyler {name} COMMAND --help` explains a command; {guide} leads through all."])
