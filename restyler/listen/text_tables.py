"""Tables of text, and how figures are written in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from restyler.command import shown


@dataclass(frozen=True)
class Table:
    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def number(value: float | None) -> str:
    """To three digits or so, in points of a scale."""
    if value is None:
        return "–"
    text = f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return text.replace("-", "−")


def bounds(interval: Mapping[str, float] | None) -> str:
    return "–" if interval is None else f"[{number(interval['low'])}, {number(interval['high'])}]"


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def percent(share: float) -> str:
    return f"{100 * share:.4g}%"


def two_digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def lines(table: Table, columns: Sequence[int]) -> list[str]:
    """Some columns of a table for a terminal."""
    cells = [[shown(row[column]) for column in columns] for row in (table.columns, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
