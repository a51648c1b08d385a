"""Serve the model: a page to upload takes to and choose mixes on, and the same as an HTTP API.

restyler serve

Prints the link of the page, with a key that is new at each start. What was made is kept in DATA, and goes on after a
stop or a crash. `restyler keys DATA add NAME` makes keys for others. For others than this computer put a web server
with HTTPS before it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import ipaddress
from collections.abc import Iterator, Sequence
from pathlib import Path

from restyler.command import Parser, command, integer, number
from restyler.serving.limits import Limits

DEFAULT_PORT = 8765


def parser() -> Parser:
    options = Parser(prog="restyler serve", description=(__doc__ or "").strip())
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    add = options.add_argument
    # fmt: off
    add("--model", type=Path, metavar="DIR", help="folder of a saved model (default: the bundled one)")
    options.add_address(port=DEFAULT_PORT)
    add("--data", type=Path, default=Path("restyler-data"), metavar="DIR",
        help="folder for takes, jobs and mixes (default: %(default)s)")
    options.add_device()
    add("--executor", choices=("local", "ray"), default="local",
        help="who does the jobs. local: one process beside the service; ray: --workers processes, on one "
        "machine or many (extra ray) (default: %(default)s)")
    add("--workers", type=integer(1, 1024), metavar="N", help="processes on Ray, each with the model (default: 1)")
    add("--gpus", type=number(0, 64), metavar="X", help="GPUs of each worker on Ray; 0.5: two share one (default: 0)")
    add("--ray-address", metavar="ADDRESS",
        help="of a running cluster, which sees the same --model and --data; auto: that of this machine (default: "
        "one of its own, on this machine alone)")
    add("--batch", type=integer(1, 100), default=1, metavar="N",
        help="mixes of a job made at once: faster on a GPU (default: %(default)s)")
    add("--grace", type=number(0, 3600), default=20.0, metavar="S",
        help="seconds that a running job has to end when the service is told to; then it waits for the next start "
        "(default: %(default)s)")
    add("--allow-origin", action="append", default=[], metavar="URL",
        help="a site whose pages may ask too, such as https://studio.example; may be given several times "
        "(default: none)")
    add("--allow-programs", action="store_true",
        help="effect chains that jobs bring along may have parts of FFmpeg and SoX too (default: built-in parts alone)")
    # fmt: on
    for field in dataclasses.fields(Limits):
        whole = isinstance(field.default, int)
        lowest, highest = field.metadata["lowest"], field.metadata["highest"]
        add(
            f"--limit-{field.name.replace('_', '-')}",
            type=integer(lowest, highest) if whole else number(lowest, highest),
            default=field.default,
            metavar="N",
            help=f"limit: {field.metadata['help']} (default: %(default)s)",
        )
    return options


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 after SIGTERM, 130 after Ctrl-C, 2 after one line about bad input."""
    options = parser().parse_args(argv)

    with needed():
        from restyler.serving.running import serve

    limits = Limits(**{field.name: getattr(options, f"limit_{field.name}") for field in dataclasses.fields(Limits)})
    serve(options, limits)
    return 0


@contextlib.contextmanager
def needed() -> Iterator[None]:
    """Around the imports of what the extra brings."""
    from audio.errors import InputError  # --help must not wait for torch

    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f'{error.name} is needed for the service: pip install "vocal-restyler[serve]"') from error


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
