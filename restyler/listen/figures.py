"""Figures for a paper: vector files, names as text, the same bytes for the same answers."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from audio.errors import InputError
from restyler.command import shown
from restyler.listen.blocks import Block
from restyler.listen.scores import Scores, scores
from restyler.listen.sessions import SCALES
from restyler.listen.text_tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, ACCENT, SOFT = "#1d1c22", "#c2410c", "#8a8794"
WIDTH_IN = 7.0
COLUMN_IN = 0.75  # of one condition
ROW_IN = 0.28  # of one pair
ITEM_IN = 0.14  # of one item's name
FIGURES = ("conditions", "items", "differences", "strengths", "right")  # of a block, by what they show
AXIS = {
    "ab": "net share that prefers the first",
    "ccr": "comparison grade",
    "mushra": "difference in points",
    "rating": "difference in points",
    "acr": "difference in grades",
}


@dataclass(frozen=True)
class Drawing:
    """alt: what it shows, for who can't see it."""

    name: str
    alt: str
    svg: bytes
    pdf: bytes


def drawings(block: Block, level: float) -> list[Drawing]:
    """Of one block. Raises InputError without matplotlib."""
    with _drawing_rules():
        return [_drawing(f"{block.name}-{name}", alt, figure) for name, alt, figure in _figures(block, level)]


def _figures(block: Block, level: float) -> Iterator[tuple[str, str, Figure]]:
    content = block.content
    if content.get("conditions"):
        found = scores(block.answers)
        order = [one["condition"] for one in sorted(content["conditions"], key=lambda one: -one["mean"])]
        told = {one["condition"]: one for one in content["conditions"]}
        yield "conditions", f"box plot of ratings of {', '.join(order)}", _boxes(block, found, order, told, level)
        if len(found.items) > 1:
            yield "items", "mean rating of each condition on each item", _items(block, found, order)
    if content.get("differences"):
        pairs = [one for one in content["differences"] if one["by_listener"] is not None]
        rows = [(f"{one['first']} − {one['second']}", one["by_listener"]) for one in pairs]
        if rows:
            yield (
                "differences",
                "differences of pairs, with intervals",
                _forest(rows, AXIS[block.kind], level, zero=0.0),
            )
    if content.get("strengths") and content["strengths"]["intervals"]:
        model = content["strengths"]
        rows = sorted(
            zip(model["conditions"], model["intervals"], strict=True), key=lambda row: -float(row[1]["estimate"])
        )
        yield "strengths", "strengths of conditions, with intervals", _forest(rows, "ln strength", level, zero=0.0)
    if content.get("pairs"):
        rows = [(f"{one['first']} : {one['second']}", one["all"]["share"]) for one in content["pairs"]]
        yield (
            "right",
            "share of right answers, with intervals",
            _forest(rows, "share of right answers", level, zero=0.5),
        )


def _boxes(block: Block, found: Scores, order: Sequence[str], told: Mapping[str, Any], level: float) -> Figure:
    """Boxes over all ratings (whiskers: the farthest rating inside the fences), a dot for each listener's mean."""
    figure, axes = _axes(max(WIDTH_IN / 2, 1 + COLUMN_IN * len(order)), 3.6)
    by_listener = found.by_listener()
    boxes = []
    for place, name in enumerate(order):
        one = told[name]
        column = found.conditions.index(name)
        ratings = found.values[:, column]
        ratings = ratings[~np.isnan(ratings)]
        reach = 1.5 * (one["upper_quartile"] - one["lower_quartile"])
        inside = ratings[(ratings >= one["lower_quartile"] - reach) & (ratings <= one["upper_quartile"] + reach)]
        boxes.append(
            {
                "med": one["median"],
                "q1": one["lower_quartile"],
                "q3": one["upper_quartile"],
                "whislo": inside.min(),
                "whishi": inside.max(),
            }
        )
        means = by_listener[:, column]
        means = np.sort(means[~np.isnan(means)])
        aside = 0.28 * (np.arange(len(means)) * 0.618 % 1 - 0.5)  # evenly about, and always the same
        axes.plot(place + aside, means, "o", color=SOFT, markersize=2.5, alpha=0.7, zorder=1)
        if one["by_listener"] is not None:
            low, high = one["by_listener"]["low"], one["by_listener"]["high"]
            axes.plot([place + 0.33] * 2, [low, high], color=ACCENT, linewidth=1.6)
            axes.plot(place + 0.33, one["mean"], "D", color=ACCENT, markersize=4)
    axes.bxp(boxes, positions=range(len(order)), widths=0.4, showfliers=False, medianprops={"color": INK})
    _name(axes, order)
    axes.set_ylim(*_limits(block.kind))
    axes.set_ylabel("rating")
    axes.set_title(
        f"boxes: all ratings; dots: listeners' means; diamonds: mean, {percent(level)} interval", fontsize=7, color=SOFT
    )
    return figure


def _items(block: Block, found: Scores, order: Sequence[str]) -> Figure:
    """A line of condition means for each item; as high as the list of their names needs."""
    figure, axes = _axes(max(WIDTH_IN / 2, 1 + COLUMN_IN * len(order)), max(3.6, 1 + ITEM_IN * len(found.items)))
    columns = [found.conditions.index(name) for name in order]
    for number, (item, row) in enumerate(zip(found.items, found.by_item(), strict=True)):
        style = ("-", "--", ":", "-.")[number // 10 % 4]
        axes.plot(range(len(order)), row[columns], style, marker="o", markersize=3, linewidth=1, label=_label(item))
    _name(axes, order)
    axes.set_ylim(*_limits(block.kind))
    axes.set_ylabel("mean rating")
    axes.legend(fontsize=6, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), title="item", title_fontsize=7)
    return figure


def _forest(rows: Sequence[tuple[str, Mapping[str, float]]], axis: str, level: float, *, zero: float) -> Figure:
    figure, axes = _axes(WIDTH_IN, 1.0 + ROW_IN * len(rows))
    for place, (_, one) in enumerate(rows):
        axes.plot([one["low"], one["high"]], [place, place], color=ACCENT, linewidth=1.6)
        axes.plot(one["estimate"], place, "D", color=ACCENT, markersize=4)
    axes.axvline(zero, color=SOFT, linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(rows)), [_label(name) for name, _ in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel(f"{axis} ({percent(level)} interval)")
    return figure


def _limits(kind: str) -> tuple[float, float]:
    low, high = SCALES[kind]
    return low - 0.03 * (high - low), high + 0.03 * (high - low)


def _name(axes: Axes, order: Sequence[str]) -> None:
    axes.set_xticks(range(len(order)), [_label(name) for name in order], rotation=30, ha="right", fontsize=7)


def _label(name: str) -> str:
    """For one line of a drawing: XML has no place for control characters."""
    return shown(name) if len(name) <= 40 else shown(name[:39]) + "…"


def _axes(width_in: float, height_in: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="both", linewidth=0.3)
    return figure, axes


@contextmanager
def _drawing_rules() -> Iterator[None]:
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise InputError('figures need matplotlib: pip install "vocal-restyler[listen]"') from error
    rules: Any = {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "listening test",
        "pdf.fonttype": 42,
        "text.parse_math": False,  # a condition may be called $5
        "font.size": 8,
    }
    with matplotlib.rc_context(rules):
        yield


def _drawing(name: str, alt: str, figure: Figure) -> Drawing:
    svg, pdf = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    return Drawing(name, alt, svg.getvalue(), pdf.getvalue())
