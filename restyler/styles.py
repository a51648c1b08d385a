"""`restyler styles`: the names that `--style` accepts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from restyler.command import Parser, command, shown


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Prints one style a line. Returns the exit code: 0, or 2 after one line about bad input."""
    options = Parser(prog="restyler styles", description="List the styles of a model, one a line.")
    options.add_argument("--model", type=Path, metavar="DIR", help="folder of a saved model (default: the bundled one)")
    folder = options.parse_args(argv).model

    from audio.errors import InputError
    from restyler.model_folder import BUNDLED, check_manifest

    folder = folder or BUNDLED
    check_manifest(folder)
    config = folder / "conditioner" / "config.json"
    try:
        names = json.loads(config.read_text(encoding="utf-8"))["styles"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{shown(config)}: no list of styles can be read from it") from None
    for name in names:
        print(name)
    return 0
