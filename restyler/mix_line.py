"""The line of a terminal about one finished mix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from restyler.command import shown


def mix_line(
    path: Path,
    *,
    seed: str,
    styles: Mapping[str, float],
    drawn: Mapping[str, float],
    loudness_lufs: float,
    true_peak_dbtp: float,
    ceiling_dbtp: float | None,
    reverb: str | None,
    guards: str = "",
) -> str:
    """ceiling_dbtp: the peak that kept the mix from the wanted loudness; None where none did. reverb: the tag of the
    buses that it stands in, if it does. guards: what they did or found, `guards.Verdict.note`."""
    levels = f"{loudness_lufs:.1f} LUFS, {true_peak_dbtp:.1f} dBTP"
    ceiling = None if ceiling_dbtp is None else f"the peak ceiling of {ceiling_dbtp:g} dBTP wins"
    note = "" if ceiling is None else f" (quieter than wanted: {ceiling})"
    style = "".join(f"  {name}" + (f" {share:.0%}" if share < 1 else "") for name, share in styles.items())
    changed = "".join(f"  {name.removesuffix('_db')} {value:+.1f} dB" for name, value in drawn.items())
    room = "" if reverb is None else f"  in {shown(reverb.rpartition(' ')[0])}"
    return f"{shown(path)}  seed {seed}{style}{changed}{room}  {levels}{note}" + (f" ({guards})" if guards else "")
