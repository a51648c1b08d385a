"""Keys of the service whose data lies in DATA: add NAME makes one and prints it, once; list; revoke NAME.

restyler keys DATA add NAME

Each key is an owner: nobody sees another's takes and jobs. The service may run meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from restyler.command import Parser, command, shown


def parser() -> Parser:
    options = Parser(prog="restyler keys", description=(__doc__ or "").strip())
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("data", type=Path, metavar="DATA", help="folder of `restyler serve --data`")
    options.add_argument("what", choices=("add", "list", "revoke"), help="what to do")
    options.add_argument("name", nargs="?", metavar="NAME", help="of the key, for add and revoke")
    return options


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    options = parser().parse_args(argv)

    from audio.errors import InputError
    from restyler.serving.command import needed

    with needed():
        from restyler.serving import keys
        from restyler.serving.storage import DATABASE, Storage

    if (options.name is None) != (options.what == "list"):
        raise InputError(f"{options.what} needs {'no name' if options.what == 'list' else 'a NAME'}")
    if not options.data.is_dir():
        raise InputError(f"{shown(options.data)}: no folder; `restyler serve --data` makes it")
    if options.what != "add" and not (options.data / DATABASE).is_file():
        raise InputError(f"{shown(options.data)}: holds no data of the service: {DATABASE} is missing")
    with contextlib.closing(Storage(options.data, time.time)) as storage:
        if options.what == "add":
            print(keys.add(storage, options.name))
        elif options.what == "revoke":
            keys.revoke(storage, options.name)
        else:
            for name, since in keys.every(storage):
                print(f"{since}  {shown(name)}")
    return 0
