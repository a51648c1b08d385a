"""What is said of ratings: mushra, rating, acr."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from restyler.listen.achieved_power import smallest_d
from restyler.listen.anova import anova
from restyler.listen.blocks import Block, Settings, plain
from restyler.listen.reliability import agreement, retests
from restyler.listen.scores import Scores, score_differences, scores
from restyler.listen.screening import outliers
from restyler.listen.summaries import MULTIMODAL, fewest, summaries
from restyler.listen.tests_of_difference import Difference, differences, friedman
from restyler.listen.text_tables import percent

SCALE = ("reference", "anchor35", "anchor70")  # of MUSHRA: to screen listeners and to hold the scale, not to be tested
FEWEST = 3  # listeners of an analysis of variance or a Friedman test


def scores_block(block: Block, settings: Settings) -> Block:
    """The block with its content."""
    found = scores(block.answers)
    roles = {one.condition: one.role for one in block.answers}
    told = summaries(found, seed=settings.seed, level=settings.level)
    scale = SCALE if block.kind == "mushra" else ()
    tested = [name for name in found.conditions if roles[name] not in scale]
    if len(tested) < 2:  # one system: all that can be asked is whether it is told from the reference
        tested = [name for name in found.conditions if roles[name] not in scale[1:]]
    table = differences(score_differences(found, tested), seed=settings.seed, level=settings.level)
    not_computed: list[str] = []
    not_computed += too_few(len(found.listeners), len(found.items), settings.level)
    overall = _overall(found, tested, settings.alpha, not_computed)
    agreed = agreement(found.values[found.complete()][:, found.asked()].T, level=settings.level)
    if agreed is None:
        not_computed.append("intraclass correlations: they need two listeners who judged everything, and who disagree")
    again = retests(block.answers)
    if not again:
        not_computed.append("test–retest reliability: no page was repeated")
    content = {
        "listeners": len(found.listeners),
        "listeners_complete": int(found.complete().sum()),
        "items": list(found.items),
        "conditions": plain(told),
        "roles": roles,
        "multimodal": [
            one.condition for one in told if one.multimodality is not None and one.multimodality > MULTIMODAL
        ],
        "differences": plain(table),
        "overall": overall,
        "agreement": plain(agreed),
        "retests": plain(again),
        "outliers": plain(outliers(block.answers)) if block.kind != "acr" else [],
        "power": power(table, settings.alpha),
        "not_computed": not_computed,
    }
    return replace(block, content=block.content | content)


def too_few(listeners: int, items: int, level: float) -> list[str]:
    """What is missing from the tables for want of listeners or items."""
    least = fewest(level)
    found = [] if listeners > 1 else ["tests and effect sizes: they need two listeners or more"]
    for count, name in ((listeners, "listener"), (items, "item")):
        if count < least:
            found.append(
                f"bootstrap intervals by {name}: {count} {name}s are too few, {least} are needed for {percent(level)}"
            )
    return found


def power(table: list[Difference], alpha: float) -> dict[str, Any] | None:
    """The smallest difference that the strictest step of Holm's procedure finds, in deviations and in points.

    In points None where there is none, or where listeners who don't differ tell nothing of the spread.
    """
    if not table:
        return None
    listeners = min(one.listeners for one in table)
    strictest = alpha / len(table)
    smallest = smallest_d(listeners, strictest)
    spread = float(np.median([one.spread for one in table]))
    return {
        "listeners": listeners,
        "alpha": strictest,
        "smallest_dz": smallest,
        "spread": spread,
        "smallest_points": smallest * spread if smallest is not None and spread > 0 else None,
    }


def _overall(found: Scores, tested: list[str], alpha: float, not_computed: list[str]) -> dict[str, Any]:
    """Whether the tested conditions differ at all: analysis of variance where its assumptions hold, else Friedman."""
    columns = [found.conditions.index(name) for name in tested]
    if not found.asked()[columns].all():
        not_computed.append("one test of all conditions: not every condition was heard on every item")
        return {"conditions": tested, "listeners": 0, "incomplete": []}
    values = found.values[:, columns]
    complete = ~np.isnan(values).any(axis=(1, 2))
    values = values[complete]
    left_out = [name for name, whole in zip(found.listeners, complete, strict=True) if not whole]
    facts: dict[str, Any] = {"conditions": tested, "listeners": len(values), "incomplete": left_out}
    if left_out:
        not_computed.append(f"one test of all conditions: without {', '.join(left_out)}, who did not judge everything")
    if len(values) < FEWEST or len(tested) < 2:
        not_computed.append(
            f"one test of all conditions: it needs two conditions and {FEWEST} listeners who judged everything"
        )
        return facts
    try:
        variance = anova(values)
    except ValueError as error:
        not_computed.append(f"analysis of variance: {error}")
    else:
        if variance.normality >= alpha:
            return facts | {"anova": plain(variance)}
        not_computed.append(
            f"analysis of variance: its residuals are not normal (Shapiro–Wilk p = {variance.normality:.2g})"
        )
    ranked = friedman(values.mean(axis=2))
    if ranked is None:
        not_computed.append("Friedman's test: it needs three conditions that somebody ranks")
    return facts | {"friedman": plain(ranked)}
