"""`restyler listen`: design a listening test, serve it to listeners, analyse what they answered."""

from __future__ import annotations

from collections.abc import Sequence

from restyler.command import command
from restyler.subcommands import run

COMMANDS = {
    "design": ("restyler.listen.design_command", "make a test from folders of renders"),
    "serve": ("restyler.listen.serve_command", "serve a test to its listeners"),
    "analyse": ("restyler.listen.analyse_command", "screen the listeners, test the differences, write the report"),
    "import": ("restyler.listen.import_command", "read the results of webMUSHRA or BeaqleJS"),
}


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code of the subcommand."""
    return run("listen", COMMANDS, argv, guide="docs/listening.md")
