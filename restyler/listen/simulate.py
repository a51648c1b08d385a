"""Listeners made by chance from a known truth: what statistics must find again, and what a design can show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from restyler.listen.answers import Answer
from restyler.listen.plan import ListeningTest, Trial
from restyler.listen.sessions import SCALES


@dataclass(frozen=True)
class Truth:
    """What the listeners answer from.

    means: of each condition on the scale of the test, for mushra, rating, acr and ccr (whose score is the difference of
    two). bias_sd: of listeners, the same on all conditions; taste_sd: of listeners on each condition; item_sd: of each
    condition on each item; noise_sd: of each answer. log_strengths: for ab, by Bradley and Terry; log_tie: Davidson's
    ln ν where ties are allowed. share_correct: for abx. careless: listeners, by number, who answer anything at all.
    """

    means: Mapping[str, float] = field(default_factory=dict)
    bias_sd: float = 0.0
    taste_sd: float = 0.0
    item_sd: float = 0.0
    noise_sd: float = 0.0
    log_strengths: Mapping[str, float] = field(default_factory=dict)
    log_tie: float = 0.0
    share_correct: float = 0.5
    careless: frozenset[int] = frozenset()


def simulate(plan: ListeningTest, listeners: int, truth: Truth, generator: np.random.Generator) -> list[Answer]:
    """Answers of so many listeners to all pages but training; scores are whole numbers within their scale.

    A repeat has the effects of its item, and new noise. Raises KeyError for a condition that the truth does not name.
    """
    pages = [trial for trial in plan.trials if not trial.training]
    of_items: dict[tuple[str, str], float] = {}
    answers: list[Answer] = []
    for listener in range(listeners):
        bias = truth.bias_sd * generator.standard_normal()
        tastes: dict[str, float] = {}
        for trial in pages:
            liked = {}
            for name in (one.condition for one in trial.stimuli):
                taste = tastes.setdefault(name, truth.taste_sd * generator.standard_normal())
                on_item = of_items.setdefault((trial.item, name), truth.item_sd * generator.standard_normal())
                liked[name] = (truth.means[name] if trial.kind in SCALES else 0.0) + bias + taste + on_item
            careless = listener in truth.careless
            answers += _page(f"listener {listener + 1}", trial, truth, liked, careless=careless, generator=generator)
    return answers


def _page(
    listener: str,
    trial: Trial,
    truth: Truth,
    liked: Mapping[str, float],
    *,
    careless: bool,
    generator: np.random.Generator,
) -> list[Answer]:
    role = {one.condition: one.role for one in trial.stimuli}

    def answer(condition: str, other: str | None, score: float | None, choice: str | None) -> Answer:
        return Answer(
            listener=listener,
            trial=trial.id,
            kind=trial.kind,
            item=trial.item,
            condition=condition,
            other=other,
            score=score,
            choice=choice,
            repeat_of=trial.repeat_of,
            role=role[condition],
        )

    def score(mean: float) -> float:
        low, high = SCALES[trial.kind]
        drawn = generator.uniform(low, high) if careless else mean + truth.noise_sd * generator.standard_normal()
        return float(np.clip(np.rint(drawn), low, high))

    if trial.kind in ("mushra", "rating", "acr"):
        return [answer(name, None, score(liked[name]), None) for name in role]
    first, second = sorted(role)
    if trial.kind == "ccr":
        return [answer(first, second, score(liked[first] - liked[second]), None)]
    if trial.kind == "abx":
        right = generator.random() < (0.5 if careless else truth.share_correct)
        return [answer(first, second, None, "correct" if right else "incorrect")]
    strengths = np.array([truth.log_strengths[first], truth.log_strengths[second]])
    weights = np.append(np.exp(strengths), np.exp(truth.log_tie + strengths.mean()) if trial.ties else 0.0)
    if careless:
        weights = (weights > 0).astype(float)
    drawn = int(generator.choice(3, p=weights / weights.sum()))
    return [answer(first, second, None, (first, second, None)[drawn])]
