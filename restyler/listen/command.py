"""`restyler listen`: design a listening test, serve it to listeners, analyse what they answered."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from restyler.command import command

COMMANDS = {
    "design": ("restyler.listen.design_command", "make a test from folders of renders"),
    "serve": ("restyler.listen.serve_command", "serve a test to its listeners"),
    "analyse": ("restyler.listen.analyse_command", "screen the listeners, test the differences, write the report"),
    "import": ("restyler.listen.import_command", "read the results of webMUSHRA or BeaqleJS"),
}


def usage() -> str:
    """What all subcommands are called with, from their own parsers."""
    lines = ["usage: restyler listen COMMAND …", ""]
    for name, (module, what) in COMMANDS.items():
        parser = importlib.import_module(module).parser()
        lines += [f"  {name:<10}{what}", *(f"    {line}" for line in parser.format_usage().splitlines()), ""]
    return "\n".join(
        [*lines, "`restyler listen COMMAND --help` explains a command; docs/listening.md leads through all."]
    )


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code of the subcommand."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    match arguments:
        case ["--help" | "-h"]:
            print(usage())
            raise SystemExit(0)
        case [name, *rest] if name in COMMANDS:
            return int(importlib.import_module(COMMANDS[name][0]).main(rest))
    from audio.errors import InputError

    given = f"unknown command {arguments[0]!r}" if arguments else "no command given"
    raise InputError(f"{given} (allowed: {', '.join(COMMANDS)}; see restyler listen --help)")
