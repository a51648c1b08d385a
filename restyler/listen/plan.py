"""A listening test as its folder holds it: what is asked, which sounds are compared, in which order each hears them.

TEST/test.json is this plan; TEST/stimuli/ holds the sounds under names that tell nothing; TEST/answers.sqlite3 comes
with the server. The plan names every condition, so it is the owner's: a listener is shown slots (A, B, C …) alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from audio.errors import InputError
from audio.io import write_text_atomic
from restyler.sections import NonNegative, Positive, PositiveFloat, Probability, Section, first_mistake

PLAN = "test.json"
STIMULI = "stimuli"
FORMAT = 1

Kind = Literal["mushra", "rating", "ab", "abx", "acr", "ccr"]
Role = Literal["system", "reference", "anchor35", "anchor70", "raw", "mix"]


class Stimulus(Section):
    """One sound of a trial. file: below stimuli/, drawn at random, of the same size as its trial's others."""

    condition: str  # the system's name as tables show it; "reference", "anchor35", "anchor70", "raw", "mix" for those
    role: Role
    file: str
    source: str  # the file it was cut from, for the owner's records
    gain_db: float  # fixed gain that matched its loudness
    loudness_lufs: float  # after that gain


class Trial(Section):
    """One page: some sounds, one question.

    mushra: sliders 0–100 beside an open reference, which is also among the stimuli, hidden. rating: sliders 0–100,
    no reference. ab: which of two. abx: X is one of two, which. acr: one sound, 1 to 5. ccr: the second sound against
    the first, −3 to +3.
    """

    id: str
    kind: Kind
    item: str  # the song or take; conditions are compared within an item
    repeat_of: str | None = None  # id of the trial that this one repeats, for reliability
    training: bool = False  # shown first and left out of the analysis
    question: str
    reference: Stimulus | None = None  # the open one: mushra's; ab's where similarity is asked
    stimuli: Annotated[tuple[Stimulus, ...], Field(min_length=1, max_length=12)]
    ties: bool = False  # ab: «no difference» may be answered
    start_s: float  # where in the source the excerpt begins


class Power(Section):
    """What the design can show: of `effect` (Cohen's d of paired differences, or the share of correct answers)."""

    test: str  # named as scipy names it
    effect: PositiveFloat
    alpha: PositiveFloat
    power: Probability  # reached with `listeners`
    listeners: Positive


class ListeningTest(Section):
    """A whole test."""

    format: Literal[1]
    name: str
    seed: NonNegative
    consent: str
    instructions: str
    finish: str
    headphone_check: bool
    sample_rate_hz: Positive
    duration_s: PositiveFloat  # of the longest excerpt
    listeners: Positive  # as many links there are
    owner_token_sha256: str
    listener_tokens_sha256: tuple[str, ...]  # of listener 0, 1, …; the links themselves lie in TEST/links.txt alone
    power: tuple[Power, ...]
    trials: tuple[Trial, ...]


def read_plan(folder: Path) -> ListeningTest:
    """The plan of a test's folder. Raises InputError where it is missing or damaged."""
    try:
        document = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        return ListeningTest.model_validate_json(json.dumps(document))
    except OSError as error:
        raise InputError(f"{folder}: is no listening test: {PLAN} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        where, item = first_mistake(error)
        raise InputError(f"{folder / PLAN}: {where}: {item['msg']}") from error
    except ValueError as error:
        raise InputError(f"{folder / PLAN}: is no JSON") from error


def write_plan(folder: Path, plan: ListeningTest) -> None:
    """Writes TEST/test.json atomically."""
    write_text_atomic(folder / PLAN, plan.model_dump_json(indent=1) + "\n")
