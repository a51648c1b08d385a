"""`restyler join`: several folders of pairs as one, by a table that points to their files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from audio import io
from audio.errors import InputError
from restyler.command import Parser, command, number
from restyler.pairs import Pair, read_pairs


def joined_rows(folders: Sequence[Path], out: Path, *, validation_fraction: float) -> list[dict[str, str]]:
    """Rows of OUT/pairs.jsonl: every pair of every folder, its key behind the folder's name, its split as it was.

    Raises InputError for what `read_pairs` refuses, and for two folders of one name.
    """
    names = [folder.resolve().name for folder in folders]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"folders of pairs are told apart by their names, and two are called {', '.join(twice)}")
    return [
        _row(name, pair, out)
        for name, folder in zip(names, folders, strict=True)
        for pair in read_pairs(folder, validation_fraction=validation_fraction, needed=())
    ]


def _row(name: str, pair: Pair, out: Path) -> dict[str, str]:
    row = {"key": f"{name}/{pair.key}", "split": pair.split}
    row |= {
        side: os.path.relpath(path.resolve(), out.resolve()) for side, path in (("raw", pair.raw), ("mix", pair.mix))
    }
    told = {"style": pair.style, "chain": pair.chain}
    return row | {column: value for column, value in told.items() if value is not None}


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    parser = Parser(prog="restyler join", description="Make one folder of pairs from several; no recording is copied.")
    parser.add_argument("pairs", nargs="+", type=Path, metavar="PAIRS", help="folders of pairs, each of another name")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for pairs.jsonl; has none yet")
    parser.add_argument(
        "--validation-fraction",
        type=number(0, 1),
        default=0.05,
        help="share of takes, by a hash of their key, where a folder names no splits (default: %(default)s)",
    )
    options = parser.parse_args(argv)
    manifest = options.out / "pairs.jsonl"
    if manifest.exists():
        raise InputError(f"{manifest} exists; join into a new folder")
    rows = joined_rows(options.pairs, options.out, validation_fraction=options.validation_fraction)
    io.make_folder(options.out)
    io.write_text_atomic(manifest, "".join(json.dumps(row) + "\n" for row in rows))
    print(f"{len(rows)} pairs in {manifest}")
    return 0
