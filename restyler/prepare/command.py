"""Make a training set of latents from raw takes and finished mixes.

restyler prepare --raw DIR --mix DIR --out DATASET [section.key=value …]
restyler prepare --manifest pairs.csv --out DATASET

Matches, hears, aligns and judges every pair, then encodes the good ones; DATASET/report.html tells the fate of every
file. Run the same command again to go on after a stop, or after files were added or changed: only what changed is done.
Many processes: accelerate launch --num_processes N -m restyler.prepare …
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from audio.errors import InputError
from restyler.command import Parser, command, integer, shown
from restyler.prepare.config import PrepareConfig, load_prepare_config
from restyler.prepare.manifest import read_manifest
from restyler.prepare.matching import Matched, match_folders
from restyler.prepare.running import prepare
from restyler.processes import told_once


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    parser = Parser(prog="restyler prepare", description=(__doc__ or "").strip())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings to change, as YAML")
    parser.add_argument("--raw", type=Path, metavar="DIR", help="folder of raw takes, searched through")
    parser.add_argument("--mix", type=Path, metavar="DIR", help="folder of mixes; may be the same, if names tell")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="a table of pairs instead: .csv or .jsonl")
    parser.add_argument("--out", type=Path, required=True, metavar="DATASET", help="new folder, or one to go on with")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML with what differs from prepare.yaml")
    parser.add_argument("--dry-run", action="store_true", help="print which files belong together; write nothing")
    parser.add_argument(
        "--workers",
        type=integer(1, 256),
        default=_cores(),
        help="processes that read files, for each process of a launcher (default: its share of the cores)",
    )
    parser.add_argument("--verify", action="store_true", help="read finished shards, and make damaged ones anew")
    options = parser.parse_intermixed_args(argv)
    config = load_prepare_config(options.config, options.overrides)
    matched = _matched(options, config)
    if options.dry_run:
        print(table(matched))
        return 0
    with told_once():
        return prepare(matched, options.out, config, workers=options.workers, verify=options.verify)


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(256, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def _matched(options: argparse.Namespace, config: PrepareConfig) -> Matched:
    if options.manifest is not None:
        if options.raw is not None or options.mix is not None:
            raise InputError("--manifest goes without --raw and --mix: its rows name the files")
        return Matched(read_manifest(options.manifest))
    if options.raw is None or options.mix is None:
        raise InputError("both --raw DIR and --mix DIR are needed, or --manifest FILE")
    matching = config.matching
    return match_folders(
        options.raw,
        options.mix,
        raw_words=matching.raw_words,
        mix_words=matching.mix_words,
        singer_folders=matching.singer_folders,
        out=options.out,
    )


def table(matched: Matched) -> str:
    """What belongs together, one pair a line, and every file that is in no pair with its reason."""
    rows: list[tuple[str, ...]] = [("key", "raw", "mix", "song", "singer")]
    rows += [(pair.key, str(pair.raw), str(pair.mix), pair.song, pair.singer or "–") for pair in matched.pairs]
    rows = [tuple(map(shown, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"{one.code}: {shown(one.path)}: {one.reason}" for one in matched.leftovers]
    counts = [f"{len(matched.pairs)} pairs"]
    for code in ("ambiguous", "unmatched", "not_audio"):
        counts += [f"{n} {code}" for n in [sum(one.code == code for one in matched.leftovers)] if n]
    return "\n".join([*lines, ", ".join(counts)])
