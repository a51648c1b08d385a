"""Serve a listening test: a page for every link in TEST/links.txt, answers in TEST/answers.sqlite3.

restyler listen serve TEST

A listener's page is http://HOST:PORT/l/TOKEN. Every rating is on disk before its listener is told so: the server may be
stopped, or killed, at any time and started again. The owner's token downloads what there is:
curl -H "Authorization: Bearer TOKEN" http://HOST:PORT/owner/results.csv (or .json). For listeners elsewhere put a web
server with HTTPS before it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from restyler.command import Parser, command, shown

LINKS = "links.txt"


def parser() -> Parser:
    options = Parser(prog="restyler listen serve", description=(__doc__ or "").strip())
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    add = options.add_argument
    # fmt: off
    add("test", type=Path, metavar="TEST", help="folder that `restyler listen design` wrote")
    options.add_address(port=8000)
    add("--webmushra", action="store_true",
        help="also take what webMUSHRA pages of this test post to http://HOST:PORT/service/write.php: without any"
        " token, from everybody who knows the test's name (default: nothing without a token)")
    # fmt: on
    return options


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 after SIGTERM, 130 after Ctrl-C, 2 after one line about bad input."""
    options = parser().parse_args(argv)

    from audio.errors import InputError  # --help must not wait for torch

    try:
        from restyler.listen.serving import serve
    except ModuleNotFoundError as error:
        raise InputError(
            f'{error.name} is needed to serve a listening test: pip install "vocal-restyler[listen]"'
        ) from error

    def ready(address: str) -> None:
        print(
            f"serving {shown(options.test)} at {address}; the links' tokens: {shown(options.test / LINKS)}", flush=True
        )

    from restyler.web_server import terminable

    with terminable():
        serve(options.test, host=options.host, port=options.port, webmushra=options.webmushra, ready=ready)
    return 0
