"""What every command shares: argument types with ranges, one-line errors, exit codes.

Nothing slow is imported before it is needed: `--help` must not wait for torch.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn, Protocol, TextIO

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count it
READER_GONE = 141  # 128 + SIGPIPE
QUIETEST_LUFS = -60  # of takes and mixes: the gate of loudness at −70 LUFS would cut into what is quieter

DEFAULT_PEAK_DBTP = -1.0  # true peak of mixes: what streaming services ask for
LONGEST_TAIL_S = 30.0
LOWEST_PEAK_DBTP = -20


class Main(Protocol):
    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


class Parser(argparse.ArgumentParser):
    """argparse, with bad usage as an InputError: one line instead of the whole usage text."""

    def __init__(self, *, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        from audio.errors import InputError

        raise InputError(f"{message} (see {self.prog} --help)")

    def add_device(self) -> None:
        """For `restyler.devices.pick_device`."""
        places = "auto (a GPU if there is one), cpu, cuda or cuda:N (default: %(default)s)"
        self.add_argument("--device", default="auto", metavar="D", help=places)

    def add_address(self, *, port: int) -> None:
        """Where a server listens: nowhere but on this computer unless told."""
        everywhere = "address to listen at; 0.0.0.0 for all of this computer (default: %(default)s)"
        self.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help=everywhere)
        any_port = "port to listen at; 0 takes a free one (default: %(default)s)"
        self.add_argument("--port", type=integer(0, 65_535), default=port, metavar="N", help=any_port)


def printing(text: Callable[[Any], str]) -> type[argparse.Action]:
    """An action like --help: prints the text for what was given, and ends, whatever else is missing."""

    class Printing(argparse.Action):
        def __call__(
            self,
            parser: argparse.ArgumentParser,
            namespace: argparse.Namespace,
            values: str | Sequence[Any] | None,
            option_string: str | None = None,
        ) -> None:
            print(text(values))
            parser.exit()

    return Printing


_pressed = False  # Ctrl-C, in the command that runs


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    global _pressed
    _pressed = True
    raise KeyboardInterrupt


def require_not_interrupted() -> None:
    """Raises KeyboardInterrupt where Ctrl-C was pressed: one that lands in the callback of a weak reference, as large
    sounds have, is printed there by Python and forgotten. For loops over long work."""
    if _pressed:
        raise KeyboardInterrupt


def command(main: Main) -> Main:
    """Wrap `main(argv) -> exit code` in the one error handler of all commands.

    InputError → `error: …` on one line of stderr and exit code 2, and so for a stdout that takes nothing (a full disk);
    Ctrl-C → 130; a reader of stdout that has gone, as `head` does → 141, quietly. Any other exception is a bug and
    keeps its traceback.
    """

    @functools.wraps(main)
    def handled(argv: Sequence[str] | None = None) -> int:
        if sys.stdout is None:
            print("error: standard output is closed", file=sys.stderr)
            return BAD_INPUT
        global _pressed
        plain = threading.current_thread() is threading.main_thread() and (
            signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if plain:
            signal.signal(signal.SIGINT, _on_interrupt)
        try:
            with contextlib.redirect_stdout(_Stdout(sys.stdout)) as stdout:
                try:
                    return main(argv)
                finally:
                    stdout.flush()  # here, since a failure at the interpreter's end could no longer be told
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED
        except _StdoutError as failure:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python fails once more at its end
            if isinstance(failure.error, BrokenPipeError):
                return READER_GONE
            print("error: standard output cannot be written:", failure.error.strerror, file=sys.stderr)
            return BAD_INPUT
        except ValueError as error:
            from audio.errors import InputError

            if not isinstance(error, InputError):
                raise
            print("error:", str(error).replace("\n", " "), file=sys.stderr)
            return BAD_INPUT
        finally:
            if plain:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                _pressed = False  # it was this command's alone

    return handled


class _StdoutError(Exception):
    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class _Stdout:
    """A stdout whose failures are told from those of all other files."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            raise _StdoutError(error) from error

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            raise _StdoutError(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@dataclass(frozen=True)
class Range:
    """An argument type: a number from `lowest` to `highest`, both included; never NaN. kind: int or float."""

    kind: type[int] | type[float]
    lowest: float
    highest: float

    def __call__(self, text: str) -> int | float:
        try:
            value = self.kind(text)
        except ValueError:
            value = None
        if value is None or not self.lowest <= value <= self.highest:
            if self.kind is int:
                raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {self.lowest} to {self.highest}")
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {self.lowest:g} to {self.highest:g}")
        return value


def integer(lowest: int, highest: int) -> Range:
    """An argument type: a whole number from `lowest` to `highest`, both included."""
    return Range(int, lowest, highest)


def number(lowest: float, highest: float) -> Range:
    """An argument type: a number from `lowest` to `highest`, both included; never NaN."""
    return Range(float, lowest, highest)


def assignment(text: str) -> tuple[str, float]:
    """An argument type: NAME=VALUE with a number."""
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER") from None


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold a text: Python keeps other bytes of a file name as halves of surrogate pairs."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def one_line(error: Exception) -> str:
    """What an error of a library says, in one line."""
    return " ".join(str(error).split())


def shown(text: object) -> str:
    """Text for one line of a terminal: a file name may hold line feeds, escapes, or bytes that are no UTF-8."""
    return str(text) if str(text).isprintable() else repr(str(text))
