"""Answers as a table for other programs."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence

from restyler.listen.answers import Answer

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(answers: Sequence[Answer]) -> str:
    """One line for each answer, a column for each field; UTF-8, empty where a field has no value.

    Text that a spreadsheet would run as a formula, as listeners' comments may be, gets an apostrophe before it.
    """
    out = io.StringIO()
    names = [field.name for field in dataclasses.fields(Answer)]
    table = csv.writer(out)
    table.writerow(names)
    for answer in answers:
        table.writerow([_cell(getattr(answer, name)) for name in names])
    return out.getvalue()


def _cell(value: str | float | None) -> str | float:
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return "" if value is None else value
