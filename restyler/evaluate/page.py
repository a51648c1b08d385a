"""The content of report.json as a page: one self-contained file without scripts, asking the network for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from restyler.evaluate.tables import Cell, Table, figure, part_name, text
from restyler.report import escape

TEMPLATE = Path(__file__).with_name("page.html")
DOTS_WIDTH, DOTS_HEIGHT = 220, 16
CURVE_WIDTH, CURVE_HEIGHT, MARGIN = 560, 240, 40
COLOURS = ("#c2410c", "#0f766e", "#4338ca", "#a16207", "#be185d", "#15803d", "#0369a1", "#7e22ce")


def page(title: str, lead: str, content: Mapping[str, Any], tables: Sequence[Table]) -> str:
    """Every table, the best-of-n curves and what the rows are. Every given text is escaped."""
    rows = [row for group in content["groups"] for row in group["rows"]]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        lead=escape(lead),
        curves="\n".join(map(_curve, content["groups"])),
        tables="\n".join(map(_table, tables)),
        rows="\n".join(f"<dt>{escape(row['name'])}</dt><dd>{escape(row['what'])}</dd>" for row in rows),
        quantities="\n".join(
            f"<dt>{escape(', '.join(filter(None, (one['name'], one['unit']))))}</dt><dd>{escape(one['what'])}</dd>"
            for one in content["quantities"]
        ),
    )


def _table(table: Table) -> str:
    heads = "".join(f"<th>{escape(head)}</th>" for head in table.columns)
    scale = _scale([cells[0] for _, cells in table.rows]) if table.plotted else None
    plot_head = "<th></th>" if scale else ""
    body = []
    for name, cells in table.rows:
        plot = f"<td>{_dots(cells[0], *scale)}</td>" if scale else ""
        figures = "".join(f'<td class="number">{escape(text(cell))}</td>' for cell in cells)
        body.append(f"<tr><td>{escape(name)}</td>{plot}{figures}</tr>")
    first, _, rest = heads.partition("</th>")
    return (
        f"<section><h2>{escape(table.title)}</h2><p>{escape(table.note)}</p>"
        f'<div class="scroll"><table><thead><tr>{first}</th>{plot_head}{rest}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div></section>"
    )


def _scale(cells: Sequence[Cell]) -> tuple[float, float] | None:
    """From the lowest edge of all intervals to the highest; None where nothing is to be drawn."""
    edges = [edge for cell in cells if not isinstance(cell, str) for edge in cell if edge is not None]
    return (min(edges), max(edges)) if edges and max(edges) > min(edges) else None


def _dots(cell: Cell, lowest: float, highest: float) -> str:
    """A dot for the value on a line from low to high."""
    if isinstance(cell, str) or any(edge is None for edge in cell):
        return ""
    value, low, high = (4 + (DOTS_WIDTH - 8) * ((edge or 0.0) - lowest) / (highest - lowest) for edge in cell)
    middle = DOTS_HEIGHT / 2
    return (
        f'<svg class="dots" viewBox="0 0 {DOTS_WIDTH} {DOTS_HEIGHT}" role="img" aria-label="{escape(text(cell))}">'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>'
        f'<circle cx="{value:.1f}" cy="{middle}" r="3.5"/></svg>'
    )


def _curve(group: Mapping[str, Any]) -> str:
    """Best-of-n curves over n, with floor and ceiling as broken lines; nothing where no row has several draws."""
    curves: Mapping[str, Sequence[Sequence[float]]] = group["best_of_n"]
    if not curves:
        return ""
    levels = {
        f"{line['name']} ({role})": line["estimates"]["mss_lr"]["mean"][0]
        for role in ("floor", "ceiling")
        for line in group["all"]["lines"]
        if line["row"] == group[role]
    }
    most = max(map(len, curves.values()))
    values = [point[0] for curve in curves.values() for point in curve] + list(levels.values())
    lowest, highest = min(values), max(values)
    span = (highest - lowest) or 1.0

    def x(n: int) -> float:
        return MARGIN + (CURVE_WIDTH - 2 * MARGIN) * (n / max(1, most - 1))

    def y(value: float) -> float:
        return MARGIN / 2 + (CURVE_HEIGHT - 1.5 * MARGIN) * (highest - value) / span

    marks = [
        f'<text x="{MARGIN - 6}" y="{y(value) + 3:.1f}" text-anchor="end">{figure(value)}</text>'
        for value in (lowest, highest)
    ]
    marks += [f'<text x="{x(n):.1f}" y="{CURVE_HEIGHT - 8}" text-anchor="middle">{n + 1}</text>' for n in range(most)]
    marks += [
        f'<line class="level" x1="{MARGIN}" x2="{CURVE_WIDTH - MARGIN}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        for value in levels.values()
    ]
    legend = [f"<li><i></i>{escape(name)}</li>" for name in levels]
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{x(n):.1f},{y(point[0]):.1f}" for n, point in enumerate(curve))
        marks.append(f'<polyline points="{points}" style="stroke:{colour}"/>')
        legend.append(f'<li><i style="border-top:3px solid {colour}"></i>{escape(name)}</li>')
    return (
        f"<section><h2>Best of n{escape(part_name(group['scored_s']))}</h2>"
        "<p>Expected lowest MSS_lr of n draws over n; lower is nearer.</p>"
        f'<svg class="curve" viewBox="0 0 {CURVE_WIDTH} {CURVE_HEIGHT}" role="img" aria-label="best-of-n curves">'
        f"{''.join(marks)}</svg><ul>{''.join(legend)}</ul></section>"
    )
