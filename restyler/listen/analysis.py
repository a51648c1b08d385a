"""Everything that is said of a listening test, from its plan and its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from restyler.listen.analysis_choices import choices_block
from restyler.listen.analysis_scores import scores_block
from restyler.listen.answers import Answer
from restyler.listen.blocks import Block, Settings, blocks, plain
from restyler.listen.plan import ListeningTest
from restyler.listen.reliability import retests
from restyler.listen.screening import Verdict, ambiguous, screen


@dataclass(frozen=True)
class Analysis:
    """content: what report.json holds. blocks: with the answers that counted, for figures."""

    content: dict[str, Any]
    blocks: tuple[Block, ...]


def analyse(plan: ListeningTest, answers: Sequence[Answer], settings: Settings) -> Analysis:
    """Answers as `answer_files.checked` gives them, of one listener or more."""
    verdicts = screened(answers, settings.retest_limit)
    kept = {verdict.listener for verdict in verdicts if verdict.kept}
    found = []
    for block in blocks(plan, answers):
        counted = replace(block, answers=tuple(one for one in block.answers if one.listener in kept))
        work = choices_block if block.kind in ("ab", "abx", "ccr") else scores_block
        found.append(work(counted, settings) if counted.answers else _nobody(counted))
    return Analysis(
        content={
            "test": plan.name,
            "seed": settings.seed,
            "alpha": settings.alpha,
            "level": settings.level,
            "listeners": len(verdicts),
            "screening": [plain(verdict) | {"kept": verdict.kept} for verdict in verdicts],
            "ambiguous_pages": ambiguous([one for one in answers if one.kind == "mushra"]),
            "planned_power": [power.model_dump(mode="json") for power in plan.power],
            "blocks": [block.content for block in found],
            "comments": _comments(answers),
        },
        blocks=tuple(found),
    )


def screened(answers: Sequence[Answer], retest_limit: float | None) -> list[Verdict]:
    """A verdict on every listener, for the whole test: by the MUSHRA pages, and by repeats where a limit is given.

    retest_limit: points on the scale 0–100 between two ratings of one thing, on average.
    """
    mushra = {verdict.listener: verdict for verdict in screen([one for one in answers if one.kind == "mushra"])}
    found = [mushra.get(name, Verdict(name, 0, 0, 0, 0, ())) for name in sorted({one.listener for one in answers})]
    if retest_limit is None:
        return found
    repeats = retests([one for one in answers if one.kind in ("mushra", "rating")])
    apart = {one.listener: one.mean_absolute for one in repeats if one.mean_absolute > retest_limit}
    return [
        verdict._replace(
            reasons=(
                *verdict.reasons,
                f"repeated ratings {apart[verdict.listener]:.1f} points apart on average, above {retest_limit:g}",
            )
        )
        if verdict.listener in apart
        else verdict
        for verdict in found
    ]


def _nobody(block: Block) -> Block:
    return replace(block, content=block.content | {"not_computed": ["every listener was screened out"]})


def _comments(answers: Sequence[Answer]) -> list[dict[str, str]]:
    """Each once: a page's comment may stand at all its answers."""
    told = {(one.listener, one.trial, one.item, one.comment) for one in answers if one.comment.strip()}
    return [
        {"listener": listener, "page": trial, "item": item, "comment": comment}
        for listener, trial, item, comment in sorted(told)
    ]
