"""What listeners answered, as every source of answers gives it and every statistic takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from restyler.listen.plan import Kind, Stimulus, Trial


@dataclass(frozen=True)
class Answer:
    """One judgement of one listener.

    score: 0–100 (mushra, rating: of `condition`), 1–5 (acr), −3…3 (ccr: `condition` against `other`, turned so that
    the order of play is out of it). choice: of ab, the condition preferred over `other` or None for a tie: `condition`
    is the first of the two by name; of abx, "correct" or "incorrect".
    """

    listener: str
    trial: str
    kind: Kind
    item: str
    condition: str
    other: str | None = None
    score: float | None = None
    choice: str | None = None
    repeat_of: str | None = None
    time_s: float | None = None  # on the page
    comment: str = ""
    role: Literal["system", "reference", "anchor35", "anchor70", "raw", "mix"] = "system"  # of `condition`


def answer_to(
    trial: Trial,
    sounds: Sequence[Stimulus],
    *,
    listener: str,
    score: float | None = None,
    choice: str | None = None,
    time_s: float | None = None,
    comment: str = "",
) -> Answer:
    """What was answered on a trial's page to one of its sounds, or to a pair of them in the order of their names."""
    return Answer(
        listener=listener,
        trial=trial.id,
        kind=trial.kind,
        item=trial.item,
        condition=sounds[0].condition,
        other=sounds[1].condition if len(sounds) > 1 else None,
        score=score,
        choice=choice,
        repeat_of=trial.repeat_of,
        time_s=time_s,
        comment=comment,
        role=sounds[0].role,
    )
