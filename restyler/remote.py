"""`restyler remote`: `restyler sample` on another machine's model, by its service."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from restyler import sample
from restyler.command import Parser, command, number, shown
from restyler.sample_plan import default_variations, originals, require_together, wished_controls

# About the machine that does it, or files of it.
HERE_ONLY = frozenset({"help", "model", "batch", "device", "report", "timing", "stems"})
KEY_VARIABLE = "RESTYLER_KEY"
LONGEST_KEY_FILE_BYTES = 4096
DEFAULT_WAIT_S = 600


def shared_options() -> list[str]:
    """Names of the options that mean here what they mean to `restyler sample`."""
    return [action.dest for action in sample.parser()._actions if action.dest not in HERE_ONLY]


def parser() -> Parser:
    options = Parser(
        prog="restyler remote",
        description="What `restyler sample` does, by a service on this or another machine (`restyler serve`): the same "
        "controls, the same files under the same names. Takes are checked here, sent, and each mix is written as soon "
        "as it is made. Interrupted, the same call goes on where it was: the server works on meanwhile.",
    )
    for action in sample.parser()._actions:  # as argparse itself does for parents, of which none could be left out
        if action.dest not in HERE_ONLY:
            options._add_action(action)
    add = options.add_argument
    # fmt: off
    add("--server", required=True, metavar="URL", help="where the service is: http://127.0.0.1:8765")
    add("--key-file", type=Path, metavar="FILE",
        help=f"a file with the key in its first line (default: the environment's {KEY_VARIABLE}); a key never stands "
        "on a command line, which other users of the machine can see")
    add("--wait", type=number(0, 86_400), default=DEFAULT_WAIT_S, metavar="S",
        help="how many seconds to wait where the server is full, starting or out of reach (default: %(default)s)")
    add("--forget", action="store_true",
        help="when all mixes are here, delete them and the takes at the server; --like can't start from them any more")
    # fmt: on
    return options


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    said = parser()
    options = said.parse_args(argv)

    from restyler.client import Client
    from restyler.client_refusals import import_httpx
    from restyler.remote_errands import find_errands, forget, start
    from restyler.remote_following import follow
    from restyler.remote_request import wishes
    from restyler.takes import find_takes, made_folders

    import_httpx()
    require_together(options)
    wished_controls(options)  # one that is set twice
    key = read_key(options.key_file)
    paths, passed_over = find_takes(options.takes)
    with Client(options.server, key, patience_s=options.wait) as client:
        errands = find_errands(
            client,
            paths,
            options.out,
            variations=options.between[2] if options.between else options.variations or default_variations(options),
            overwrite=options.overwrite,
            others=originals(options),
            wished=wishes(options, shared_options(), said),
            references=options.reference,
            like=options.like,
        )
        with made_folders([errand.folder for errand in errands]):
            for path in passed_over:
                print(f"{shown(path)}: passed over, not an audio file by its name")
            started = start(client, errands)
            for place, errand in enumerate(started, start=1):
                follow(client, errand, f"take {place} of {len(errands)}")
            if options.forget:
                forget(client, errands)
    return 0


def read_key(file: Path | None) -> str:
    """From the first line of a file, or the environment. Raises InputError, without the key, where there is none."""
    from audio.errors import InputError

    if file is None:
        key = os.environ.get(KEY_VARIABLE, "")
        if not key:
            raise InputError(f"no key: name a file by --key-file, or set {KEY_VARIABLE}")
        return key
    try:
        with file.open("rb") as handle:
            text = handle.read(LONGEST_KEY_FILE_BYTES).decode()
    except OSError as error:
        raise InputError(f"{shown(file)}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        text = ""
    key = (text.splitlines() or [""])[0].strip()
    if not key:
        raise InputError(f"{shown(file)}: no key in its first line")
    return key
