"""Screen the listeners of a test, test the differences between its conditions, and write the report.

OUT/report.html shows everything, report.json holds it; figures/ (SVG and PDF) and table-* (CSV and LaTeX)
are for a paper.
The server may be running. Answers given elsewhere (`restyler listen import`) are analysed with --answers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from restyler.command import Parser, command, integer, number, shown


def parser() -> Parser:
    options = Parser(prog="restyler listen analyse", description=(__doc__ or "").strip())
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    add = options.add_argument
    # fmt: off
    add("test", type=Path, metavar="TEST", help="folder of a test")
    add("--out", type=Path, metavar="DIR", help="where the report is written (default: TEST/report)")
    add("--answers", type=Path, nargs="+", metavar="FILE",
        help="answers of `restyler listen import` (default: those that the server keeps in TEST)")
    add("--alpha", type=number(0.005, 0.5), default=0.05, metavar="P",
        help="of all tests after Holm's correction; intervals are of 1 − P (default: %(default)s)")
    add("--retest-limit", type=number(0, 100), metavar="POINTS",
        help="leave out who rates repeated sounds farther apart on average, on the scale 0–100 (default: nobody)")
    add("--seed", type=integer(0, 2**31), default=0, metavar="N",
        help="of resampling and permutations (default: %(default)s)")
    add("--webmushra-csv", type=Path, metavar="DIR",
        help="write the answers as webMUSHRA's result files too; kinds that it does not have are told and left out")
    # fmt: on
    return options


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    options = parser().parse_args(argv)

    from restyler.listen.analysis import analyse
    from restyler.listen.analysis_report import summary, write_report
    from restyler.listen.answer_files import checked, read_answers
    from restyler.listen.blocks import Settings
    from restyler.listen.export_webmushra import write_results
    from restyler.listen.plan import read_plan
    from restyler.listen.storage import answers

    plan = read_plan(options.test)
    if options.answers is None:
        given = answers(options.test)
    else:
        given = [one for file in options.answers for one in read_answers(file)]
    given = checked(plan, given)
    found = analyse(plan, given, Settings(options.seed, options.alpha, options.retest_limit))
    out = options.out or options.test / "report"
    write_report(out, found)
    print(summary(found.content))
    print(f"\nreport: {shown(out / 'report.html')}")
    if options.webmushra_csv is not None:
        for line in write_results(options.webmushra_csv, plan, given):
            print(line)
    return 0
