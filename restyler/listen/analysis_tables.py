"""What report.json says, as tables of text: for the page, the terminal, and a paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from restyler.listen.choice_tables import abx_listeners, abx_pairs, counts, same_choices, strengths
from restyler.listen.text_tables import Table, bounds, number, p_value, percent, two_digits

POINTS = {"mushra": "points", "rating": "points", "acr": "grades", "ccr": "grades", "ab": "net share of preference"}


def block_tables(block: Mapping[str, Any], level: float) -> list[Table]:
    """All tables of one block, those left out that have nothing to say."""
    found = [
        conditions_table(block, level),
        differences_table(block, level),
        _overall(block),
        counts(block),
        strengths(block, level),
        abx_pairs(block, level),
        abx_listeners(block),
        _agreement(block, level),
        _retests(block),
        same_choices(block),
        _power(block),
        _outliers(block),
    ]
    return [table for table in found if table is not None and table.rows]


def screening_table(content: Mapping[str, Any]) -> Table:
    rows = []
    for one in content["screening"]:
        reference = f"{one['reference_failed']} of {one['reference_judged']}" if one["reference_judged"] else "–"
        anchor = f"{one['anchor_failed']} of {one['anchor_judged']}" if one["anchor_judged"] else "–"
        rows.append((one["listener"], reference, anchor, "; ".join(one["reasons"]) or "kept"))
    kept = sum(one["kept"] for one in content["screening"])
    unclear = ", ".join(content["ambiguous_pages"]) or "none"
    return Table(
        "Listeners",
        f"{kept} of {len(rows)} kept. Left out is who rates the hidden reference below 90, or the mid anchor above 90, "
        "on more than 15 % of the MUSHRA pages; pages where more than a quarter of all listeners rate the mid anchor "
        f"above 90 don't count for it (ITU-R BS.1534-3): {unclear}. Who is left out is left out of the whole test.",
        ("listener", "hidden reference < 90", "mid anchor > 90", "verdict"),
        tuple(rows),
    )


def planned_table(content: Mapping[str, Any]) -> Table:
    rows = [
        (one["test"], two_digits(one["effect"]), f"{one['alpha']:.2g}", f"{one['power']:.0%}", str(one["listeners"]))
        for one in content["planned_power"]
    ]
    return Table(
        "Power as planned",
        "For what the design was made: effect is d_z, or the share of answers where choices are counted.",
        ("test", "effect", "alpha", "power", "listeners"),
        tuple(rows),
    )


def comments_table(content: Mapping[str, Any]) -> Table:
    rows = [(one["listener"], one["page"], one["item"], one["comment"]) for one in content["comments"]]
    return Table("Comments", "As listeners wrote them.", ("listener", "page", "item", "comment"), tuple(rows))


def conditions_table(block: Mapping[str, Any], level: float) -> Table | None:
    if "conditions" not in block:
        return None
    rows = []
    for one in sorted(block["conditions"], key=lambda one: -one["mean"]):
        quartiles = f"{number(one['median'])} [{number(one['lower_quartile'])}, {number(one['upper_quartile'])}]"
        rows.append(
            (
                one["condition"],
                str(one["listeners"]),
                str(one["ratings"]),
                quartiles,
                bounds(one["median_by_listener"]),
                number(one["mean"]),
                bounds(one["by_listener"]),
                bounds(one["t_interval"]),
                bounds(one["by_item"]),
                two_digits(one["multimodality"]) + (" (> 5/9)" if one["condition"] in block["multimodal"] else ""),
            )
        )
    interval = f"{percent(level)} interval"
    return Table(
        "Conditions",
        "Median and quartiles over all ratings (repeats averaged); mean over listeners, of each one's mean over items. "
        "Intervals: bootstrap, listeners drawn anew; Student's t over listeners; bootstrap, items drawn anew. b above "
        "5/9: listeners may be of two minds.",
        (
            "condition", "listeners", "ratings", "median [quartiles]", f"{interval} of median", "mean",
            f"{interval} by listener", "Student's t", "by item", "b",
        ),
        tuple(rows),
    )  # fmt: skip


def differences_table(block: Mapping[str, Any], level: float) -> Table | None:
    if "differences" not in block:
        return None
    rows = [
        (
            f"{one['first']} − {one['second']}",
            str(one["listeners"]),
            number(one["mean"]),
            bounds(one["by_listener"]),
            bounds(one["by_item"]),
            p_value(one["permutation"]),
            p_value(one["holm"]),
            p_value(one["wilcoxon"]),
            p_value(one["wilcoxon_holm"]),
            two_digits(one["cohens_dz"]),
            two_digits(one["rank_biserial"]),
        )
        for one in block["differences"]
    ]
    family = " that were compared"
    if "conditions" in block:
        named = {one[name] for one in block["differences"] for name in ("first", "second")}
        left = sorted({one["condition"] for one in block["conditions"]} - named)
        family = f" but {', '.join(left)}" if left else ""
    return Table(
        "Differences",
        f"In {POINTS[block['kind']]}, of each listener's mean over items. p: permutation (sign flips) and Wilcoxon's "
        f"signed ranks, both two-sided; Holm over the {len(rows)} pairs of all conditions{family}. Intervals are for "
        "each pair by itself. d_z: mean over standard deviation of the differences; r: matched-pairs rank-biserial "
        "correlation.",
        (
            "pair", "listeners", "mean", f"{percent(level)} interval by listener", "by item", "p permutation",
            "Holm (permutation)", "p Wilcoxon", "Holm (Wilcoxon)", "d_z", "r",
        ),
        tuple(rows),
    )  # fmt: skip


def _overall(block: Mapping[str, Any]) -> Table | None:
    overall = block.get("overall", {})
    title, note = "All conditions at once", f"{overall.get('listeners')} listeners who judged everything."
    if variance := overall.get("anova"):
        rows = tuple(
            (
                one["name"],
                f"F({one['degrees']}, {one['error_degrees']}) = {one['f']:.2f}",
                p_value(one["p"]),
                f"{one['corrected']} {one['epsilon_hf']:.2f}",
                "–" if one["mauchly"] is None else p_value(one["mauchly"]),
                two_digits(one["eta"]),
            )
            for one in variance["effects"]
        )
        note += f" Repeated-measures analysis of variance; residuals pass for normal (p = {variance['normality']:.2f})."
        return Table(title, note, ("effect", "F", "p corrected", "ε", "p sphericity (Mauchly)", "partial η²"), rows)
    if ranked := overall.get("friedman"):
        row = (
            f"χ²({ranked['degrees']}) = {ranked['statistic']:.2f}",
            p_value(ranked["p"]),
            two_digits(ranked["kendalls_w"]),
        )
        return Table(title, note + " Friedman's test.", ("statistic", "p", "Kendall's W"), (row,))
    return None


def _agreement(block: Mapping[str, Any], level: float) -> Table | None:
    found = block.get("agreement")
    if not found:
        return None
    names = (("ICC(2,1), absolute agreement of one listener", "single"), ("ICC(3,k), consistency of the mean", "mean"))
    return Table(
        "Agreement between listeners",
        f"Over {found['judged']} things judged (condition on item; reference and anchors are among them, and raise it) "
        f"by {found['listeners']} listeners who judged all.",
        ("", "ICC", f"{percent(level)} interval"),
        tuple((what, two_digits(found[name]["estimate"]), bounds(found[name])) for what, name in names),
    )


def _retests(block: Mapping[str, Any]) -> Table | None:
    rows = tuple(
        (
            one["listener"] or "all",
            str(one["pairs"]),
            number(one["mean_difference"]),
            number(one["mean_absolute"]),
            number(one["within"]),
            number(one["repeatable"]),
            two_digits(one["correlation"]),
        )
        for one in block.get("retests", ())
    )
    return Table(
        "Listeners with themselves",
        "Ratings of the same thing on a page and on its repeat. s_w: standard deviation within listeners; 95 % of "
        "repeated ratings differ by less than the coefficient of repeatability. Difference: repeat minus original, "
        "whichever was heard first.",
        ("listener", "pairs", "mean difference", "mean |difference|", "s_w", "repeatability", "correlation"),
        rows,
    )


def _power(block: Mapping[str, Any]) -> Table | None:
    found = block.get("power")
    if not found:
        return None
    row = (
        str(found["listeners"]),
        f"{found['alpha']:.2g}",
        "none" if found["smallest_dz"] is None else f"{found['smallest_dz']:.2f}",
        number(found["spread"]),
        "none" if found["smallest_dz"] is None else number(found["smallest_points"]),
    )
    return Table(
        "What this test could have shown",
        "The smallest difference that Wilcoxon's test finds in four tests of five, with these listeners, at Holm's "
        f"strictest step; in {POINTS[block['kind']]} by the median spread of pairs. A smaller one may be there unseen.",
        ("listeners", "alpha", "smallest d_z", "spread of differences", "smallest difference"),
        (row,),
    )


def _outliers(block: Mapping[str, Any]) -> Table | None:
    rows = tuple(
        (
            one["listener"],
            one["trial"],
            one["condition"],
            number(one["score"]),
            f"{number(one['low'])} to {number(one['high'])}",
        )
        for one in block.get("outliers", ())
    )
    return Table(
        "Ratings to look at",
        "Beyond 1.5 interquartile ranges of their condition and page. They count: only a proven error may be removed.",
        ("listener", "page", "condition", "rating", "fences"),
        rows,
    )
