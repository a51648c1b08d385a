"""What report.json says of comparisons, as tables of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from restyler.listen.text_tables import Table, bounds, p_value, percent, two_digits


def counts(block: Mapping[str, Any]) -> Table | None:
    rows = tuple(
        (
            f"{one['first']} : {one['second']}",
            *(str(one[name]) for name in ("preferred_first", "ties", "preferred_second")),
        )
        for one in block.get("counts", ())
    )
    return Table("Choices", "Answers, all listeners together.", ("pair", "first", "tie", "second"), rows)


def strengths(block: Mapping[str, Any], level: float) -> Table | None:
    model = block.get("strengths")
    if not model:
        return None
    intervals = model["intervals"] or [None] * len(model["conditions"])
    lines = sorted(zip(model["log_strengths"], model["conditions"], intervals, model["deviations"], strict=True))[::-1]
    tie = "" if model["tie"] is None else f" Ties after Davidson: ln ν = {model['tie']:.2f}."
    return Table(
        "Strengths (Bradley–Terry)",
        "ln of the strength, their mean 0: one is preferred to another with odds e^difference. Intervals allow for "
        f"listeners who differ (sandwich errors by listener).{tie}",
        ("condition", "ln strength", f"{percent(level)} interval", "naive standard error"),
        tuple((name, two_digits(value), bounds(interval), f"{error:.2f}") for value, name, interval, error in lines),
    )


def abx_pairs(block: Mapping[str, Any], level: float) -> Table | None:
    rows = tuple(
        (
            f"{one['first']} : {one['second']}",
            f"{one['all']['correct']} of {one['all']['trials']}",
            f"{one['all']['share']['estimate']:.0%}",
            bounds(one["all"]["share"]),
            p_value(one["all"]["p"]),
            p_value(one["all"]["holm"]),
            two_digits(one["all"]["d_prime"]),
            two_digits(one["smallest_share"]),
        )
        for one in block.get("pairs", ())
    )
    return Table(
        "Right answers",
        "Exact one-sided binomial test against guessing, all listeners together, Holm over pairs; Clopper–Pearson "
        "interval, which takes every answer for independent; d′ of independent observations. Last: the share that this "
        "number of answers finds in four tests of five, at Holm's strictest step.",
        ("pair", "right", "share", f"{percent(level)} interval", "p", "Holm", "d′", "smallest share found"),
        rows,
    )


def abx_listeners(block: Mapping[str, Any]) -> Table | None:
    rows = tuple(
        (
            one["listener"],
            f"{pair['first']} : {pair['second']}",
            f"{one['correct']} of {one['trials']}",
            p_value(one["p"]),
            p_value(one["holm"]),
        )
        for pair in block.get("pairs", ())
        for one in pair["each"]
    )
    return Table(
        "Right answers of each listener", "Holm over listeners.", ("listener", "pair", "right", "p", "Holm"), rows
    )


def same_choices(block: Mapping[str, Any]) -> Table | None:
    rows = tuple(
        (one["listener"] or "all", f"{one['same']} of {one['pairs']}", f"{one['same'] / one['pairs']:.0%}")
        for one in block.get("same_choices", ())
    )
    return Table(
        "Listeners with themselves", "Choices that came out the same twice.", ("listener", "same", "share"), rows
    )
