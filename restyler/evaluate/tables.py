"""The content of report.json as tables, and a table as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Tree = Mapping[str, Any]
Cell = Sequence[float | None] | str  # [value, low, high], or text

HEADLINE = (("mss_lr", "mean"), ("mss_ms", "mean"), ("mss_ms", "median"), ("mldr", "mean"), ("mel_db", "mean"))
NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """title: of its section. note: how it is to be read. columns: their heads, the first that of the rows' names.

    plotted: whether the page shows the first column of figures as dots with intervals too.
    """

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    plotted: bool = False


def tables(content: Tree) -> list[Table]:
    """Every table of a report; those of each scored part one after the other."""
    return [table for group in content["groups"] for table in _of_group(content, group) if table.rows]


def markdown(table: Table) -> str:
    """A heading, a note and a table with aligned columns."""
    rows = [tuple(map(_plain, table.columns))]
    rows += [(_plain(name), *(text(cell) for cell in cells)) for name, cells in table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([f"### {table.title}", "", table.note, "", *lines, ""])


def text(cell: Cell) -> str:
    """1.039 [0.981, 1.102]; a dash for what is not defined."""
    if isinstance(cell, str):
        return _plain(cell)
    value, *edges = cell
    if value is None:
        return NOTHING
    if any(edge is None for edge in edges) or not edges:
        return figure(value)
    return f"{figure(value)} [{', '.join(figure(edge) for edge in edges if edge is not None)}]"


def figure(value: float) -> str:
    """Three decimals, fewer for large figures."""
    size = abs(value)
    return f"{value:.3f}" if size < 10 else f"{value:.2f}" if size < 100 else f"{value:.1f}"


def part_name(scored_s: Sequence[float] | None) -> str:
    return "" if scored_s is None else f", {scored_s[0]:g} to {scored_s[1]:g} s"


def _of_group(content: Tree, group: Tree) -> Iterator[Table]:
    part = part_name(group["scored_s"])
    units = {one["name"]: one["unit"] for one in content["quantities"]}
    kinds: dict[str, list[str]] = {"fidelity": [], "content": []}
    for one in content["quantities"]:
        kinds[one["kind"]].append(one["name"])
    headline = [column for column in HEADLINE if column[0] in units]
    others = [(name, "mean") for name in kinds["fidelity"] if name not in dict(headline)]
    level = "Loudness is matched first, except where level itself is measured."
    subsets = [("", group["all"])]
    if group["without_unprocessed"] is not None:
        subsets.append((" without the pairs whose mix is virtually its raw take", group["without_unprocessed"]))
    for words, subset in subsets:
        said = f"{subset['pairs']} pairs of {subset['songs']} songs; 95 % intervals by song; lower is nearer. {level}"
        said += _fewer(subset)
        yield _estimates(f"Fidelity to the mix{part}{words}", said, headline, subset["lines"], units, plotted=True)
        yield _differences(f"Differences to what must be beaten{part}{words}", subset["lines"], group["bases"])
    lines, fewer = group["all"]["lines"], _fewer(group["all"])
    yield _estimates(
        f"Level, dynamics, tone and stereo{part}", f"Distance to the mix. {level}{fewer}", others, lines, units
    )
    yield _estimates(
        f"Content{part}",
        f"Beside the raw take: is it still this singer singing this take?{_missing(kinds['content'], lines)}{fewer}",
        [(name, "mean") for name in kinds["content"]],
        lines,
        units,
    )
    yield _diversity(f"Diversity{part}", group["diversity"])
    yield _best_of_n(f"Expected lowest MSS_lr of n draws{part}", group)
    yield _distribution(f"Distribution of mixes{part}", group["distribution"])
    yield _per_pair(f"MSS_lr of every pair{part}", content, group)
    yield _offsets(f"Alignment{part}", content, group)


def _missing(names: Sequence[str], lines: Sequence[Tree]) -> str:
    missing = [name for name in names if not any(name in line["estimates"] for line in lines)]
    return f" Not measured here: {', '.join(missing)}." if missing else ""


def _fewer(subset: Tree) -> str:
    """Which lines were scored on a part of the pairs only, so that they can't be laid beside the others as they are."""
    counts = {line["name"]: len(line["by_pair"]) for line in subset["lines"]}
    told = [f"{name} ({count})" for name, count in counts.items() if count < subset["pairs"]]
    return f" On fewer pairs than the others: {'; '.join(told)}." if told else ""


def _estimates(
    title: str,
    note: str,
    columns: Sequence[tuple[str, str]],
    lines: Sequence[Tree],
    units: Mapping[str, str],
    *,
    plotted: bool = False,
) -> Table:
    def head(name: str, statistic: str) -> str:
        unit = f", {units[name]}" if units[name] else ""
        return f"{name}{unit}" if statistic == "mean" else f"{name}{unit} ({statistic})"

    present = [one for one in columns if any(one[0] in line["estimates"] for line in lines)]
    rows = tuple(
        (
            line["name"],
            tuple(line["estimates"][name][kind] if name in line["estimates"] else NOTHING for name, kind in present),
        )
        for line in lines
    )
    return Table(title, note, ("", *(head(*one) for one in present)), rows if present else (), plotted)


def _differences(title: str, lines: Sequence[Tree], bases: Sequence[str]) -> Table:
    quantities = list(dict.fromkeys(name for line in lines for one in line["differences"].values() for name in one))
    columns = [(base, name) for base in bases for name in quantities]
    rows = tuple(
        (line["name"], tuple(line["differences"].get(base, {}).get(name, NOTHING) for base, name in columns))
        for line in lines
    )
    note = (
        "Paired by song, mean; below zero is nearer to the mix than that row is. Like with like: a best draw beside the"
        " best of as many, an expected one beside the expected one."
    )
    return Table(title, note, ("", *(f"{name} − {base}" for base, name in columns)), rows if columns else ())


def _diversity(title: str, found: Mapping[str, Tree]) -> Table:
    columns = (
        ("pairwise distance, dB", "pairwise_db"),
        ("ratio to random presets", "ratio"),
        ("Vendi score", "vendi"),
        ("conditional Vendi score", "conditional_vendi"),
    )
    rows = tuple(
        (f"{name} ({one['draws']} draws)", tuple(_cell(one[key]) for _, key in columns)) for name, one in found.items()
    )
    note = (
        "How far the draws of one take lie apart in effect vectors: the mean distance of two draws, the same over that"
        " of random presets on the same take; how many different mixes all draws of all takes come to (Vendi), or the"
        " draws of one take (conditional; 1: all the same, the number of draws: none like another)."
    )
    return Table(title, note, ("", *(head for head, _ in columns)), rows)


def _best_of_n(title: str, group: Tree) -> Table:
    curves: Mapping[str, Sequence[Cell]] = group["best_of_n"]
    most = max((len(curve) for curve in curves.values()), default=0)
    rows = [(name, (*curve, *[NOTHING] * (most - len(curve)))) for name, curve in curves.items()]
    for role in ("floor", "ceiling"):
        line = next((one for one in group["all"]["lines"] if one["row"] == group[role]), None)
        if rows and line is not None:
            rows.append((f"{line['name']} ({role})", (line["estimates"]["mss_lr"]["mean"],) * most))
    note = "Over all choices of n of the draws, mean over pairs."
    return Table(title, note, ("", *(f"n = {n + 1}" for n in range(most))), tuple(rows))


def _distribution(title: str, found: Mapping[str, Tree]) -> Table:
    rows = tuple((name, (one["kad"], one["fad"])) for name, one in found.items() if one is not None)
    note = (
        "Between the effect vectors of all renders of a row and those of the mixes; jackknife intervals by song. KAD is"
        " over pairs of different songs, about 0 for renders that can't be told from mixes; FAD is biased upwards for"
        " few mixes, alike for rows of as many draws."
    )
    return Table(title, note, ("", "KAD", "FAD"), rows)


def _per_pair(title: str, content: Tree, group: Tree) -> Table:
    keys = [pair["key"] for pair in content["pairs"]]
    rows = tuple(
        (line["name"], tuple([line["by_pair"][key]] if key in line["by_pair"] else NOTHING for key in keys))
        for line in group["all"]["lines"]
    )
    return Table(title, "Lower is nearer.", ("", *keys), rows)


def _offsets(title: str, content: Tree, group: Tree) -> Table:
    names = [row["name"] for row in group["rows"]]
    found: dict[str, list[Tree | None]] = {name: [] for name in names}
    for score in content["scores"]:
        if score["row"] in found:
            found[score["row"]].append(score["offset"])

    def row(offsets: Sequence[Tree | None]) -> tuple[Cell, ...]:
        told = [offset for offset in offsets if offset is not None]
        late = [one["milliseconds"] for one in told]
        facts: list[Callable[[], str]] = [
            lambda: f"{statistics.median(late):.3f}",
            lambda: f"{max(late, key=abs):.3f}",
            lambda: str(sum(one["polarity"] < 0 for one in told)),
        ]
        return (f"{len(told)} of {len(offsets)}", *(fact() if told else NOTHING for fact in facts))

    used = "and was taken out before fidelity was measured" if content["settings"]["align"] else "and was left as it is"
    note = (
        f"How far the first render of each pair lies behind the mix, by phase, {used}; none where they have too little"
        " phase in common to tell."
    )
    columns = ("", "offset found", "median, ms", "largest, ms", "inverted")
    return Table(title, note, columns, tuple((name, row(found[name])) for name in names))


def _cell(value: Any) -> Cell:
    return NOTHING if value is None else value


def _plain(words: str) -> str:
    """Text that stays one cell."""
    return " ".join(words.split()).replace("|", "\\|")
