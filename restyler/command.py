"""What every command shares: argument types with ranges, one-line errors, exit codes.

Nothing slow is imported before it is needed: `--help` must not wait for torch.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count it


class Main(Protocol):
    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


class Parser(argparse.ArgumentParser):
    """argparse, with bad usage as an InputError: one line instead of the whole usage text."""

    def __init__(self, *, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        from audio.errors import InputError

        raise InputError(f"{message} (see {self.prog} --help)")


def command(main: Main) -> Main:
    """Wrap `main(argv) -> exit code` in the one error handler of all commands.

    InputError → `error: …` on one line of stderr and exit code 2; Ctrl-C → 130. Any other exception is a bug and
    keeps its traceback.
    """

    @functools.wraps(main)
    def handled(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED
        except ValueError as error:
            from audio.errors import InputError

            if not isinstance(error, InputError):
                raise
            print("error:", str(error).replace("\n", " "), file=sys.stderr)
            return BAD_INPUT

    return handled


def integer(lowest: int, highest: int) -> Callable[[str], int]:
    """An argument type: a whole number from `lowest` to `highest`, both included."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {lowest} to {highest}")
        return value

    return parse


def number(lowest: float, highest: float) -> Callable[[str], float]:
    """An argument type: a number from `lowest` to `highest`, both included; never NaN."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = None
        if value is None or not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {lowest:g} to {highest:g}")
        return value

    return parse


def assignment(text: str) -> tuple[str, float]:
    """An argument type: NAME=VALUE with a number."""
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER") from None


def shown(text: object) -> str:
    """Text for one line of a terminal: a file name may hold line feeds, escapes, or bytes that are no UTF-8."""
    return str(text) if str(text).isprintable() else repr(str(text))
