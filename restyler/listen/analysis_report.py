"""report.html and report.json, the figures, and tables for a paper."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from audio.errors import InputError
from audio.io import make_folder, write_bytes_atomic, write_text_atomic
from restyler.command import shown
from restyler.listen.analysis import Analysis
from restyler.listen.analysis_tables import (
    block_tables,
    comments_table,
    conditions_table,
    differences_table,
    planned_table,
    screening_table,
)
from restyler.listen.blocks import TITLES
from restyler.listen.choice_tables import abx_pairs
from restyler.listen.figures import FIGURES, Drawing, drawings
from restyler.listen.text_tables import Table, lines, percent
from restyler.report import escape

TEMPLATE = Path(__file__).with_name("analysis.html")
MINUS = re.compile(r"(?<![^\[ ])−(?=\d)")  # of a number, alone or in an interval
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "–": "--", "<": "$<$", ">": "$>$",
    "′": "$'$",
}  # fmt: skip


def write_report(out: Path, analysis: Analysis) -> None:
    """OUT/report.html, report.json, figures/*.svg and *.pdf, and table-BLOCK.csv and .tex of each block.

    Files of an earlier report are replaced, and those that this one doesn't have are removed. Raises InputError where
    something can't be written or drawn.
    """
    content = analysis.content
    level = content["level"]
    document = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    drawn = [drawings(block, level) for block in analysis.blocks]
    files: dict[Path, bytes] = {}
    for one in (one for group in drawn for one in group):
        files[out / "figures" / f"{one.name}.svg"] = one.svg
        files[out / "figures" / f"{one.name}.pdf"] = one.pdf
    for block in content["blocks"]:
        table = conditions_table(block, level) or differences_table(block, level) or abx_pairs(block, level)
        if table is not None and table.rows:
            files[out / f"table-{block['name']}.csv"] = as_csv(table).encode()
            files[out / f"table-{block['name']}.tex"] = as_latex(table).encode()
    make_folder(out / "figures")
    try:
        for path in _of_earlier(out) - set(files):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{shown(out)}: an earlier report cannot be removed: {error.strerror}") from error
    for path, data in files.items():
        write_bytes_atomic(path, data)
    write_text_atomic(out / "report.json", document + "\n")
    write_text_atomic(out / "report.html", page(content, drawn))


def _of_earlier(out: Path) -> set[Path]:
    """Figures and tables that a report left here: a paper must not take an old one for its own."""
    names = "|".join(TITLES)
    figure = re.compile(rf"\d\d-({names})-({'|'.join(FIGURES)})\.(svg|pdf)")
    table = re.compile(rf"table-\d\d-({names})\.(csv|tex)")
    figures = {path for path in (out / "figures").iterdir() if figure.fullmatch(path.name)}
    return figures | {path for path in out.iterdir() if table.fullmatch(path.name)}


def page(content: Mapping[str, Any], drawn: Sequence[Sequence[Drawing]]) -> str:
    """One self-contained page without scripts. Every given text is escaped."""
    kept = sum(one["kept"] for one in content["screening"])
    lead = (
        f"{content['listeners']} listeners, {kept} of them kept. The listener is the unit of every test: of each one "
        "the mean over items counts, and intervals are for other listeners; where for other items, they say so. "
        f"Intervals of {percent(content['level'])}, tests at {content['alpha']:g}, seed {content['seed']}."
    )
    parts = [_section(screening_table(content), "h2")]
    for block, figures in zip(content["blocks"], drawn, strict=True):
        parts.append(f"<h2>{escape(block['title'])}</h2><p>{escape(block['question'])}</p>")
        parts += [_image(one) for one in figures]
        parts += [_section(table, "h3") for table in block_tables(block, content["level"])]
        if block["not_computed"]:
            told = "".join(f"<li>{escape(reason)}</li>" for reason in block["not_computed"])
            parts.append(f"<h3>Not computed</h3><ul>{told}</ul>")
    for table in (planned_table(content), comments_table(content)):
        if table.rows:
            parts.append(_section(table, "h2"))
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(content["test"]), lead=escape(lead), body="\n".join(parts)
    )


def _section(table: Table, heading: str) -> str:
    heads = "".join(f"<th>{escape(head)}</th>" for head in table.columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return (
        f"<section><{heading}>{escape(table.title)}</{heading}><p>{escape(table.note)}</p>"
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div></section>'
    )


def _image(drawing: Drawing) -> str:
    data = base64.b64encode(drawing.svg).decode()
    return f'<figure><img src="data:image/svg+xml;base64,{data}" alt="{escape(drawing.alt)}"></figure>'


def as_csv(table: Table) -> str:
    """Negative numbers with the sign that programs read."""
    text = io.StringIO()
    rows = [[MINUS.sub("-", cell) for cell in row] for row in table.rows]
    csv.writer(text, lineterminator="\n").writerows([table.columns, *rows])
    return text.getvalue()


def as_latex(table: Table) -> str:
    """A tabular that needs the package booktabs."""
    rows = [" & ".join("".join(LATEX.get(sign, sign) for sign in cell) for cell in row) for row in table.rows]
    head = " & ".join("".join(LATEX.get(sign, sign) for sign in name) for name in table.columns)
    body = " \\\\\n".join(rows)
    return (
        f"\\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}\n\\toprule\n{head} \\\\\n\\midrule\n{body} \\\\\n"
        "\\bottomrule\n\\end{tabular}\n"
    )


def summary(content: Mapping[str, Any]) -> str:
    """For a terminal: who was left out, and of each block the conditions or the pairs."""
    kept = sum(one["kept"] for one in content["screening"])
    found = [f"{content['listeners']} listeners, {kept} kept"]
    found += [f"  left out: {row[0]}: {row[-1]}" for row in screening_table(content).rows if row[-1] != "kept"]
    for block in content["blocks"]:
        found += ["", f"{block['title']}: {block['question']}"]
        tables = {table.title: table for table in block_tables(block, content["level"])}
        for title, columns in (
            ("Conditions", (0, 1, 3, 5, 6)),
            ("Differences", (0, 2, 3, 6, 8, 9)),
            ("Strengths (Bradley–Terry)", (0, 1, 2)),
            ("Right answers", (0, 1, 2, 3, 5)),
        ):
            if title in tables:
                found += ["  " + line for line in lines(tables[title], columns)]
        found += [f"  not computed: {reason}" for reason in block["not_computed"]]
    return "\n".join(found)
