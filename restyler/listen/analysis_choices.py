"""What is said of comparisons: ab, abx, ccr."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from restyler.listen.abx import discrimination
from restyler.listen.achieved_power import smallest_share
from restyler.listen.analysis_scores import power, too_few
from restyler.listen.answers import Answer
from restyler.listen.blocks import Block, Settings, plain
from restyler.listen.pairs_model import PairsModel, pairs_model
from restyler.listen.reliability import retests, same_choices
from restyler.listen.scores import judged_differences
from restyler.listen.summaries import t_interval
from restyler.listen.tests_of_difference import differences, holm


def choices_block(block: Block, settings: Settings) -> Block:
    """The block with its content."""
    listeners = {one.listener for one in block.answers}
    content: dict[str, Any] = {
        "listeners": len(listeners),
        "items": sorted({one.item for one in block.answers}),
        "not_computed": [],
    }
    content |= _abx(block.answers, settings) if block.kind == "abx" else _compared(block, settings)
    if block.kind == "ccr":
        content["retests"] = plain(retests(block.answers))
    else:
        content["same_choices"] = plain(same_choices(block.answers))
    if not content.get("retests") and not content.get("same_choices"):
        content["not_computed"].append("test–retest reliability: no page was repeated")
    return replace(block, content=block.content | content)


def _compared(block: Block, settings: Settings) -> dict[str, Any]:
    found = judged_differences(block.answers)
    table = differences(found, seed=settings.seed, level=settings.level)
    content: dict[str, Any] = {
        "differences": plain(table),
        "power": power(table, settings.alpha),
        "not_computed": too_few(len(found.listeners), len(found.items), settings.level),
    }
    if block.kind == "ccr":
        content["t_intervals"] = []
        for number, (first, second) in enumerate(found.pairs):
            cells = found.values[:, number]
            means = np.array([row[~np.isnan(row)].mean() for row in cells if not np.isnan(row).all()])
            content["t_intervals"].append(
                {"first": first, "second": second, "mean": plain(t_interval(means, level=settings.level))}
            )
        return content
    content["counts"] = [_count(first, second, block.answers) for first, second in found.pairs]
    model = pairs_model(block.answers, level=settings.level)
    if isinstance(model, PairsModel):
        content["strengths"] = plain(model)
        if model.intervals is None:
            content["not_computed"].append("intervals of strengths: they need more listeners than conditions")
    else:
        content["not_computed"].append(f"Bradley–Terry: {model}")
    return content


def _count(first: str, second: str, answers: Iterable[Answer]) -> dict[str, Any]:
    choices = [one.choice for one in answers if {one.condition, one.other} == {first, second}]
    return {
        "first": first,
        "second": second,
        "preferred_first": choices.count(first),
        "ties": choices.count(None),
        "preferred_second": choices.count(second),
    }


def _abx(answers: Sequence[Answer], settings: Settings) -> dict[str, Any]:
    """Of each pair: all answers together, and each listener by himself, Holm over pairs, and over listeners."""
    pairs: dict[tuple[str, str], list[Answer]] = {}
    for one in answers:
        pairs.setdefault((one.condition, one.other or ""), []).append(one)
    together = {pair: _discriminated(given, settings.level) for pair, given in sorted(pairs.items())}
    adjusted = holm([one.p for one in together.values()])
    rows = []
    for ((first, second), found), p in zip(together.items(), adjusted, strict=True):
        given = pairs[first, second]
        single = {
            name: _discriminated([one for one in given if one.listener == name], settings.level)
            for name in sorted({one.listener for one in given})
        }
        held = holm([one.p for one in single.values()])
        rows.append(
            {
                "first": first,
                "second": second,
                "all": plain(found) | {"holm": p},
                "smallest_share": smallest_share(found.trials, settings.alpha / len(together)),
                "each": [
                    {"listener": name} | plain(one) | {"holm": p}
                    for (name, one), p in zip(single.items(), held, strict=True)
                ],
            }
        )
    return {"pairs": rows}


def _discriminated(answers: Sequence[Answer], level: float) -> Any:
    right = sum(one.choice == "correct" for one in answers)
    return discrimination(right, len(answers), level=level)
