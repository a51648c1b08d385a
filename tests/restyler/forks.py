"""Runs Python programs as processes of their own without the seconds that importing PyTorch and diffusers takes each.

Forked from this process, which has imported them and does nothing else, so that no thread is lost in a fork. A line of
JSON on standard input starts some programs at once: [[arguments as of `python`, environment], …]. The answer is a line
with their process ids, each of a group of its own, and when all have ended [[exit code, standard output, standard
error], …]. Where one fails the others are told to end, as a launcher does.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import IO

LONGEST_S = 240.0


def fork(environment: dict[str, str], output: IO[bytes], errors: IO[bytes]) -> int:
    """As `os.fork`; in the child, the standard streams and the environment are those of its program."""
    child = os.fork()
    if child == 0:
        os.setsid()
        with Path(os.devnull).open("rb") as nothing:
            for source, target in ((nothing, 0), (output, 1), (errors, 2)):
                os.dup2(source.fileno(), target)
        os.environ.update(environment)
    return child


def wait(children: list[int]) -> list[int]:
    """Their exit codes, negative for a signal; what takes too long is killed."""
    codes: dict[int, int] = {}
    deadline = time.monotonic() + LONGEST_S
    while left := [child for child in children if child not in codes]:
        for child in left:
            if (ended := os.waitpid(child, os.WNOHANG))[0]:
                codes[child] = os.waitstatus_to_exitcode(ended[1])
                if codes[child]:
                    end(set(children) - codes.keys(), signal.SIGTERM)
        if time.monotonic() > deadline:
            end(set(children) - codes.keys(), signal.SIGKILL)
        time.sleep(0.01)
    return [codes[child] for child in children]


def end(children: set[int], number: signal.Signals) -> None:
    for child in children:
        os.kill(child, number)


def text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def program() -> list[str] | None:
    """Answers lines for ever; None at their end, and in every child the arguments of its program."""
    for line in sys.stdin:
        with ExitStack() as files:
            children, streams = [], []
            for arguments, environment in json.loads(line):
                streams.append([files.enter_context(tempfile.TemporaryFile()) for _ in ("output", "errors")])
                children.append(fork(environment, *streams[-1]))
                if children[-1] == 0:
                    return list(arguments)
            print(json.dumps(children), flush=True)
            answers = [[code, *map(text, both)] for code, both in zip(wait(children), streams, strict=True)]
        print(json.dumps(answers), flush=True)
    return None


def run(arguments: list[str]) -> None:
    """What `python` does with these arguments."""
    match arguments:
        case ["-m", module, *rest]:
            sys.argv = [module, *rest]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", code, *rest]:
            sys.argv = ["-c", *rest]
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        case [script, *_]:
            sys.argv = arguments
            runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    import restyler.codec_training
    import restyler.limits
    import restyler.prepare.command
    import restyler.prepare.encoding
    import restyler.train
    import restyler.training  # noqa: F401

    gc.freeze()  # or the first collection in every child would copy all of it
    if (chosen := program()) is not None:
        code: object = 0
        try:
            run(chosen)
        except SystemExit as end_of_program:
            code = end_of_program.code
        except BaseException:
            traceback.print_exc()
            code = 1
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))  # at once: PyTorch takes its time to go
