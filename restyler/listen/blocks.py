"""The parts of a listening test that are analysed by themselves: the pages of one kind that ask one question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from restyler.listen.answers import Answer
from restyler.listen.plan import Kind, ListeningTest

TITLES: dict[Kind, str] = {
    "mushra": "MUSHRA",
    "rating": "Ratings without a reference",
    "ab": "Preference (AB)",
    "abx": "Discrimination (ABX)",
    "acr": "Absolute category ratings",
    "ccr": "Comparison category ratings",
}


@dataclass(frozen=True)
class Settings:
    """alpha: of tests, and 1 − level of intervals. retest_limit: points; None: nobody is left out for repeats."""

    seed: int
    alpha: float
    retest_limit: float | None = None

    @property
    def level(self) -> float:
        return 1 - self.alpha


@dataclass(frozen=True)
class Block:
    """name: of its figures, distinct within a test. content: what was found, as JSON holds it."""

    name: str
    kind: Kind
    question: str
    answers: tuple[Answer, ...]
    content: dict[str, Any] = field(default_factory=dict)


def blocks(plan: ListeningTest, answers: Sequence[Answer]) -> list[Block]:
    """In the order of the plan, by which they are numbered; those without an answer left out."""
    asked = {trial.id: (trial.kind, trial.question) for trial in plan.trials if not trial.training}
    found: list[Block] = []
    for number, (kind, question) in enumerate(dict.fromkeys(asked.values()), start=1):
        given = tuple(one for one in answers if asked[one.trial] == (kind, question))
        if given:
            name = f"{number:02d}-{kind}"
            facts = {
                "name": name,
                "kind": kind,
                "title": TITLES[kind],
                "question": question,
                "answered_by": len({one.listener for one in given}),
            }
            found.append(Block(name, kind, question, given, facts))
    return found


def plain(value: Any) -> Any:
    """Named tuples as mappings, all the way down, for JSON."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(part) for name, part in value._asdict().items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value
