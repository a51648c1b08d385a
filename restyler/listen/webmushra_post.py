"""What webMUSHRA posts to service/write.php at the end of a test: a whole session, resolved to answers.

The form as its clients send it: one field, sessionJSON, of application/x-www-form-urlencoded; older ones do not escape
the JSON. Pages are those of a config that this project wrote: id is the trial's, a stimulus's key its condition.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from restyler.listen.answers import Answer, answer_to
from restyler.listen.plan import ListeningTest, Stimulus, Trial
from restyler.listen.sessions import MAX_COMMENT, RefusedError
from restyler.sections import first_mistake

FIELD = "sessionJSON="
KINDS = {
    "mushra": ("mushra",),
    "bs1116": ("mushra",),
    "paired_comparison": ("abx",),
    "likert_multi_stimulus": ("rating",),
    "likert_single_stimulus": ("acr",),
}
Name = Annotated[str, Field(min_length=1, max_length=200)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Posted(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)  # other versions send more


class Participant(_Posted):
    name: list[str] = []
    response: list[Any] = []


class Page(_Posted):
    id: Name
    type: Literal["mushra", "bs1116", "paired_comparison", "likert_multi_stimulus", "likert_single_stimulus"]
    responses: Annotated[list[dict[str, Any]], Field(max_length=100)]


class Session(_Posted):
    test_id: Annotated[str, Field(alias="testId")]
    uuid: Name
    participant: Participant = Participant()
    trials: Annotated[list[Page], Field(max_length=1000)]


def posted_session(body: bytes) -> tuple[Session, str]:
    """The session of a form, and its JSON as it came. Raises RefusedError (422) where there is none."""
    try:
        text = body.decode("utf-8")
        if text.startswith(FIELD + "{"):  # not escaped
            text = text.removeprefix(FIELD)
        else:
            [text] = parse_qs(text, strict_parsing=True, max_num_fields=4)["sessionJSON"]
        return Session.model_validate_json(text), text
    except ValidationError as error:
        where, item = first_mistake(error)
        raise RefusedError(422, f"sessionJSON: {where}: {item['msg']}".replace("\n", " ")) from error
    except (ValueError, KeyError) as error:
        raise RefusedError(422, "a form with webMUSHRA's session as JSON in sessionJSON is needed") from error


def resolved(plan: ListeningTest, session: Session) -> list[tuple[bool, list[Answer]]]:
    """For each page whether it is training, and its answers. Raises RefusedError (422) where one does not fit the plan.

    The listener is who the questionnaire's field «listener» names, else the session's uuid. Scores of bs1116 (1–5)
    become those of mushra: (score − 1) · 25. «undecided» of a pair is no answer that abx has: refused.
    """
    if session.test_id != plan.name:
        raise RefusedError(422, f"this server runs the test {plan.name!r}, not {session.test_id!r}")
    told = dict(zip(session.participant.name, session.participant.response, strict=False))
    listener = str(told.get("listener") or session.uuid).strip()[:200] or session.uuid
    trials = {trial.id: trial for trial in plan.trials}
    pages = []
    for page in session.trials:
        trial = trials.get(page.id)
        if trial is None or trial.kind not in KINDS[page.type]:
            raise RefusedError(422, f"{page.id!r}: is no {page.type} page of this test")
        pages.append((trial.training, _page(trial, page, listener)))
    if len({page.id for page in session.trials}) < len(session.trials):
        raise RefusedError(422, "a page is there twice")
    return pages


def _page(trial: Trial, page: Page, listener: str) -> list[Answer]:
    rows = []
    for response in page.responses:
        match page.type:
            case "mushra":
                rows.append(_scored(trial, response, listener, "stimulus", "score", (0, 100)))
            case "bs1116":
                for which in ("reference", "nonReference"):
                    row = _scored(trial, response, listener, which, f"{which}Score", (1, 5))
                    rows.append(dataclasses.replace(row, score=((row.score or 0.0) - 1) * 25))
            case "paired_comparison":
                rows.append(_pair(trial, response, listener))
            case _:
                limits = (1, 5) if trial.kind == "acr" else (0, 100)
                rows.append(_scored(trial, response, listener, "stimulus", "stimulusRating", limits))
    expected = [stimulus.condition for stimulus in trial.stimuli]
    if page.type == "paired_comparison":
        expected = [min(expected)]
    if sorted(row.condition for row in rows) != sorted(expected):
        raise RefusedError(422, f"{trial.id}: answers to {', '.join(sorted(expected))} are needed, once each")
    return rows


def _stimulus(trial: Trial, name: Any) -> Stimulus:
    """The stimulus that a response names: by its condition, or as webMUSHRA names those it makes itself."""
    found = [stimulus for stimulus in trial.stimuli if name == stimulus.condition]
    found = found or [stimulus for stimulus in trial.stimuli if name == stimulus.role != "system"]
    if not found:
        raise RefusedError(422, f"{trial.id}: has no stimulus {str(name)[:100]!r}")
    return found[0]


def _number(trial: Trial, response: dict[str, Any], key: str, limits: tuple[float, float] | None) -> float:
    """A number that may come as text, with spaces; within the limits."""
    try:
        if isinstance(response[key], bool):
            raise TypeError
        value = float(response[key])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RefusedError(422, f"{trial.id}: {key}: a number is needed") from error
    low, high = limits or (0, 10**9)
    if not low <= value <= high:
        raise RefusedError(422, f"{trial.id}: {key}: a number from {low:g} to {high:g} is needed")
    return value


def _scored(
    trial: Trial, response: dict[str, Any], listener: str, who: str, key: str, limits: tuple[float, float]
) -> Answer:
    score = _number(trial, response, key, limits)
    return _answer(trial, response, listener, [_stimulus(trial, response.get(who))], score=score)


def _pair(trial: Trial, response: dict[str, Any], listener: str) -> Answer:
    choice = response.get("answer")
    if choice not in ("correct", "incorrect"):
        raise RefusedError(422, f"{trial.id}: answer: correct or incorrect is needed")
    # Its client calls X «reference», whatever it is: the reference or, where there is none, the first condition.
    x = sorted(trial.stimuli, key=lambda stimulus: stimulus.role != "reference")[0]
    named = [response.get(key) for key in ("reference", "nonReference")]
    pair = [x if name == "reference" else _stimulus(trial, name) for name in named]
    pair.sort(key=lambda stimulus: stimulus.condition)
    if pair[0] is pair[1]:
        raise RefusedError(422, f"{trial.id}: two different stimuli are compared")
    return _answer(trial, response, listener, pair, choice=choice)


def _answer(
    trial: Trial,
    response: dict[str, Any],
    listener: str,
    sounds: Sequence[Stimulus],
    *,
    score: float | None = None,
    choice: str | None = None,
) -> Answer:
    comment = response.get("comment") or ""
    if not isinstance(comment, str) or len(comment) > MAX_COMMENT:
        raise RefusedError(422, f"{trial.id}: comment: text of at most {MAX_COMMENT} characters allowed")
    return answer_to(
        trial,
        sounds,
        listener=listener,
        score=score,
        choice=choice,
        time_s=_number(trial, response, "time", None) / 1000 if response.get("time") is not None else None,
        comment=comment,
    )
