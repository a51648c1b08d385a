"""Read results of webMUSHRA or BeaqleJS as answers to a test, for `restyler listen analyse TEST --answers FILE`.

restyler listen import webmushra RESULTS/*.csv --test TEST --out ANSWERS.json
restyler listen import beaqle RESULTS/*.txt --test TEST --out ANSWERS.json

webMUSHRA: the config is one that `restyler listen design --webmushra` wrote, or one that it read. Listeners are told
apart by the questionnaire's field «listener», else by session_uuid; a file with neither is refused, since nobody could
say which answers belong together. bs1116's grades 1–5 become points (grade − 1) · 25.

BeaqleJS: TestID is the page's id; a rating's label is a condition, or its file is the test's; Reference is the hidden
reference. Each file is one listener, named as the file. Ratings only: BeaqleJS's ABX results don't say which page
they are of.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from restyler.command import Parser, command, shown


def parser() -> Parser:
    options = Parser(prog="restyler listen import", description=(__doc__ or "").strip())
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    add = options.add_argument
    add("source", choices=("webmushra", "beaqle"), help="whose results")
    add("files", type=Path, nargs="+", metavar="FILE", help="result files")
    add("--test", type=Path, required=True, metavar="TEST", help="folder of the test that was run there")
    add("--out", type=Path, required=True, metavar="FILE", help="the answers, as JSON")
    return options


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    options = parser().parse_args(argv)

    from restyler.listen.answer_files import checked, write_answers
    from restyler.listen.import_beaqle import beaqle_answers
    from restyler.listen.import_webmushra import webmushra_answers
    from restyler.listen.plan import read_plan

    plan = read_plan(options.test)
    read = webmushra_answers if options.source == "webmushra" else beaqle_answers
    answers = checked(plan, read(plan, options.files))
    write_answers(options.out, answers)
    print(f"{len(answers)} answers of {len({one.listener for one in answers})} listeners: {shown(options.out)}")
    return 0
