"""Which rows are laid side by side, and which of them the others are measured by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from restyler.evaluate.records import Record
from restyler.evaluate.report import Part
from restyler.evaluate.row import SECOND_HALF, Row

FLOOR, CEILING, MEAN_PRESET, CALIBRATION = "raw take", "mix through the codec", "mean preset", "random preset"
AROUND = (
    *(FLOOR, "raw take through the codec", CEILING, MEAN_PRESET, CALIBRATION),
    *("chain fitted to the mix", "deterministic network, codec", f"Matchering{SECOND_HALF}"),
)  # what every claim needs around it


def parts_of(rows: Sequence[Row], records: Mapping[str, Sequence[Record]]) -> list[Part]:
    """One part for each stretch of the pairs that rows are scored on, in the order of the rows.

    A pair without draws counts for nothing in its row, a row without any is left out.
    """
    parts = []
    for scored_s in dict.fromkeys(row.scored_s for row in rows):
        found = {
            row.name: [record for record in records[row.name] if record.draws]
            for row in rows
            if row.scored_s == scored_s
        }
        found = {name: kept for name, kept in found.items() if kept}
        names = {role: _named(role, list(found)) for role in (FLOOR, CEILING, MEAN_PRESET, CALIBRATION)}
        if found:
            parts.append(
                Part(
                    scored_s,
                    {row.name: row.what for row in rows if row.name in found},
                    found,
                    bases=[name for role in (FLOOR, MEAN_PRESET, CALIBRATION) if (name := names[role]) is not None],
                    floor=names[FLOOR],
                    ceiling=names[CEILING],
                    calibration=names[CALIBRATION],
                )
            )
    return parts


def _named(role: str, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in (role, role + SECOND_HALF)), None)


def absent(parts: Sequence[Part]) -> list[str]:
    """Those of AROUND that no pair was scored in."""
    present = {name for part in parts for name in part.records}
    return [name for name in AROUND if name not in present]
