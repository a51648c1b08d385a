"""Score a model, or anybody's renders, against finished mixes, beside the rows that every claim needs around it.

restyler evaluate --model DIR --set SET --out DIR      renders the test pairs of SET with the model
restyler evaluate --renders DIR --set SET --out DIR    scores files: DIR/NAME/KEY.wav (draws: KEY_00.wav, KEY_01.wav …)

OUT/report.md, report.html and report.json hold every table with 95 % intervals by song. Run the same command again to
go on after a stop.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from restyler.command import Parser, command, integer, shown
from restyler.pairs import SPLITS


def parser() -> Parser:
    options = Parser(prog="restyler evaluate", description=(__doc__ or "").strip())
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    add = options.add_argument
    # fmt: off
    add("--set", type=Path, required=True, metavar="SET",
        help="a folder of pairs (raw/ and mix/, or pairs.jsonl); SET/renders/NAME/KEY.* are other systems' renders")
    add("--out", type=Path, required=True, metavar="DIR", help="new folder, or that of an earlier evaluation")
    add("--model", type=Path, metavar="DIR",
        help="folder of a saved model (default: the bundled one, or none with --renders)")
    add("--renders", type=Path, metavar="DIR", help="rendered files to score: a folder for each system, or of files")
    add("--presets", type=Path, metavar="TABLE",
        help="decoded.csv of fitted vocal chains, for the rows of mean and random presets (default: without these)")
    add("--deterministic", type=Path, metavar="DIR", help="a model that was trained to give one answer, as a row")
    add("--student", type=Path, metavar="DIR", help="a live student, as a row: one mix by each of its styles")
    add("--split", choices=SPLITS, default="test", help="of a set that names splits (default: %(default)s)")
    add("--limit", type=integer(1, 100_000), metavar="N", help="pairs at the most, evenly over the set (default: all)")
    add("--draws", type=integer(1, 100), default=8, metavar="N",
        help="samples of the model and of random presets for each pair (default: %(default)s)")
    add("--seed", type=integer(0, 2**31), default=0, metavar="N",
        help="of the draws and of the intervals (default: %(default)s)")
    add("--rows", nargs="+", metavar="NAME", help="only these rows of the tables; 'ours*' means all that begin so")
    add("--align", action="store_true",
        help="bring each render onto the mix by its measured offset (default: report the offset only)")
    add("--keep-renders", action="store_true",
        help="write the renders as OUT/renders/ROW/KEY_00.flac, and pages to hear them: OUT/listen/KEY.html")
    options.add_device()
    # fmt: on
    return options


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    options = parser().parse_args(argv)

    from restyler.evaluate.evaluation_set import chosen_entries
    from restyler.evaluate.report import report, write_report  # --help must not wait for torch
    from restyler.evaluate.roles import absent, parts_of
    from restyler.evaluate.systems import chosen, load_systems
    from restyler.evaluate.walk import SCORES, Plan, walk, write_listening
    from restyler.progress import Work, progress_bar
    from restyler.takes import made_folders, refuse_foreign

    refuse_foreign(options.out, SCORES)
    entries = chosen_entries(options.set, options.split, renders=options.renders, limit=options.limit)
    systems = load_systems(
        entries,
        model=options.model,
        others=options.renders is not None,
        presets=options.presets,
        deterministic=options.deterministic,
        student=options.student,
        draws=options.draws,
        seed=options.seed,
        device=options.device,
    )
    rows = chosen(systems.rows, options.rows)
    with progress_bar("checking files") as progress:
        work = Work(len(entries), progress)
        for entry in entries:
            entry.load()
            work.add(1)
    plan = Plan(entries, rows, systems.depends, aligned=options.align, kept=options.keep_renders)
    with made_folders([options.out]):
        with progress_bar("pairs × rows") as progress:
            records = walk(options.out, plan, progress)
        settings = {
            "set": options.set.resolve().name,
            "split": options.split,
            **systems.facts,
            "limit": options.limit,
            "draws": options.draws,
            "seed": options.seed,
            "align": options.align,
        }
        parts = parts_of(rows, records)
        write_report(options.out, report(entries, parts, settings, absent=absent(parts), seed=options.seed))
        if plan.kept:
            write_listening(options.out, plan, records)
    print(f"{shown(options.out / 'report.html')}: {len(rows)} rows, {len(entries)} pairs")
    return 0
