"""report.json as a page: one self-contained file without scripts, nothing in it asks the network for anything."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from audio.spectrum import THIRD_OCTAVES_HZ
from restyler.report import escape

TEMPLATE = Path(__file__).with_name("report_page.html")
PLOTS = 400  # alignment plots at the most, those with faults first: a page is to be opened, not archived
BARS = 24
WIDTH, HEIGHT = 320, 120
LOWEST_DB = -90.0  # of spectra, under their highest band
Row = Mapping[str, Any]


def page(content: Row) -> str:
    """The content of report.json → HTML. Every text of the user is escaped."""
    pairs = content["pairs"]
    count = Counter(pair["status"] for pair in pairs)
    lead = f"{count['ok']} are fine, {count['flagged']} used with a remark, {count['rejected']} left out."
    aligned = sorted((pair for pair in pairs if "alignment" in pair), key=lambda pair: pair["status"] == "ok")
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=f"{len(pairs)} pairs",
        lead=lead if content["finished"] else f"{lead} The latents are still being made.",
        cards="\n".join(_cards(content)),
        pairs="\n".join(map(_pair, pairs)),
        files="\n".join(_file(row) for row in content["files"] if row["fate"] != "used"),
        alignments="\n".join(map(_alignment, aligned[:PLOTS])),
    )


def _cards(content: Row) -> list[str]:
    cards = [_card(f"Minutes by {name}", _table(minutes)) for name, minutes in content["minutes"].items()]
    cards.append(_card("What was found", _table(content["faults"]) if content["faults"] else "<p>nothing</p>"))
    heard = {
        side: [pair[f"{side}_heard"] for pair in content["pairs"] if f"{side}_heard" in pair] for side in ("raw", "mix")
    }
    for name, unit in (("loudness_lufs", "LUFS"), ("true_peak_db", "dBTP")):
        values = {side: [row[name] for row in rows if row[name] is not None] for side, rows in heard.items()}
        if all(values.values()):
            cards.append(_card(f"{unit}, as found: raw takes above, mixes below", _histograms(values)))
    if all(heard.values()):
        spectra = {side: [row["third_octaves_db"] for row in rows] for side, rows in heard.items()}
        cards.append(_card("Spectrum: median of raw takes and of mixes, third octaves", _spectra(spectra)))
    return cards


def _card(title: str, body: str) -> str:
    return f'<div class="card"><h3>{escape(title)}</h3>{body}</div>'


def _table(values: Mapping[str, float]) -> str:
    top = sorted(values.items(), key=lambda item: -item[1])
    rows = "".join(
        f'<tr><td>{escape(name or "not told")}</td><td class="number">{value:,.1f}</td></tr>'.replace(".0<", "<")
        for name, value in top[:BARS]
    )
    rest = f"<tr><td>{len(top) - BARS} more</td><td></td></tr>" if len(top) > BARS else ""
    return f"<table>{rows}{rest}</table>"


def _histograms(values: Mapping[str, Sequence[float]]) -> str:
    """Raw takes upwards, mixes downwards, on one scale."""
    low, high = (fold(fold(side) for side in values.values()) for fold in (min, max))
    edges = np.linspace(math.floor(low), max(math.ceil(high), math.floor(low) + 1), BARS + 1)
    counts = {side: np.histogram(numbers, edges)[0] for side, numbers in values.items()}
    most = max(int(count.max()) for count in counts.values())
    middle, step = HEIGHT / 2, WIDTH / BARS
    bars = "".join(
        f'<rect class="{side}" x="{index * step:.1f}" y="{middle - height if side == "raw" else middle:.1f}"'
        f' width="{step - 1:.1f}" height="{height:.1f}"/>'
        for side, count in counts.items()
        for index, height in enumerate(count / most * (middle - 12))
    )
    axis = _label(0, HEIGHT, f"{edges[0]:.0f}") + _label(WIDTH, HEIGHT, f"{edges[-1]:.0f}")
    return _svg(f'<line x1="0" x2="{WIDTH}" y1="{middle}" y2="{middle}"/>{bars}{axis}')


def _spectra(spectra: Mapping[str, Sequence[Sequence[float | None]]]) -> str:
    curves = {}
    for side, rows in spectra.items():
        levels = np.array([[math.nan if value is None else value for value in row] for row in rows])
        levels -= np.nanmax(levels, axis=1, keepdims=True)
        curves[side] = np.nan_to_num(np.nanmedian(levels, axis=0), nan=LOWEST_DB).clip(LOWEST_DB)
    octaves = np.log2(np.array(THIRD_OCTAVES_HZ) / THIRD_OCTAVES_HZ[0])
    across = WIDTH * octaves / octaves[-1]
    paths = "".join(
        f'<path class="{side}" d="{_line(across, (HEIGHT - 14) * curve / LOWEST_DB)}"/>'
        for side, curve in curves.items()
    )
    return _svg(
        paths
        + _label(0, HEIGHT, f"{THIRD_OCTAVES_HZ[0]:.0f} Hz")
        + _label(WIDTH, HEIGHT, f"{THIRD_OCTAVES_HZ[-1]:,.0f} Hz, {-LOWEST_DB:.0f} dB")
    )


def _line(across: Sequence[float], down: Sequence[float]) -> str:
    return "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in zip(across, down, strict=True))


def _label(across: float, down: float, text: str) -> str:
    anchor = "end" if across == WIDTH else "start"
    return f'<text x="{across}" y="{down}" text-anchor="{anchor}">{text}</text>'


def _svg(body: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{body}</svg>'


def _pair(pair: Row) -> str:
    found = "<br>".join(f"<b>{escape(code)}</b> {escape(reason)}" for code, reason in pair["reasons"].items())
    regions = pair["alignment"]["regions"] if "alignment" in pair else []
    offsets = ", ".join(f"{1000 * region['offset_s']:.1f}" for region in regions[:4]) + (
        " …" if len(regions) > 4 else ""
    )
    gains = f"{pair['raw_gain_db']:+.1f}, {pair['mix_gain_db']:+.1f}" if "raw_gain_db" in pair else ""
    cells = [
        f"<td>{escape(pair['key'])}</td>",
        f'<td class="status {pair["status"]}">{pair["status"]}</td>',
        f"<td>{found}</td>",
        f'<td class="split">{pair.get("split", "")}</td>',
        f'<td class="number">{pair["seconds"]:.1f}</td>',
        f"<td>{offsets}</td>",
        f"<td>{gains}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _file(row: Row) -> str:
    return f"<tr><td>{escape(row['path'])}</td><td>{escape(row['fate'])}</td><td>{escape(row['reason'])}</td></tr>"


def _alignment(pair: Row) -> str:
    """Lag of the mix over the take's time, one line for each region."""
    alignment = pair["alignment"]
    times = np.array([[region["start_s"], region["stop_s"]] for region in alignment["regions"]])
    lags = 1000 * ((alignment["rate"] - 1) * times + [[region["offset_s"]] for region in alignment["regions"]])
    middle, half = (lags.max() + lags.min()) / 2, max(1.0, (lags.max() - lags.min()) / 2)
    across = WIDTH * (times - times.min()) / (times.max() - times.min())
    down = HEIGHT / 2 - (HEIGHT / 2 - 24) * (lags - middle) / half
    path = " ".join(_line(*ends) for ends in zip(across, down, strict=True))
    body = (
        f'<path class="mix" stroke-width="2" d="{path}"/>'
        + _label(0, 10, f"{middle + half:.1f} ms")
        + _label(0, HEIGHT - 12, f"{middle - half:.1f} ms")
        + _label(WIDTH, HEIGHT, f"{times.min():.1f} … {times.max():.1f} s")
    )
    turned = ", inverted" if alignment["polarity"] < 0 else ""
    caption = f"{escape(pair['key'])}{turned}, rate {alignment['rate']:.6f}"
    return f"<figure>{_svg(body)}<figcaption>{caption}</figcaption></figure>"
