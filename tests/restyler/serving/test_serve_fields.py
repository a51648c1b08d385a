"""A job's fields are the options of `restyler sample`: none is missing, none is read in another way."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from restyler.sample import parser
from restyler.serving import sample_fields
from restyler.serving.requests import JobRequest

TAKE = "0123456789abcdef"
NUMBERS = ("brightness", "space", "compression", "width", "guidance", "sigma", "spread")


def request(**fields: Any) -> JobRequest:
    return JobRequest.model_validate({"take": TAKE, **fields})


def test_every_option_is_a_field_or_the_services_own() -> None:
    fields = set(JobRequest.model_fields)
    for action in parser()._actions:
        if action.dest not in sample_fields.ELSEWHERE:
            name = {"control": "controls", "peak": "peak_dbtp"}.get(action.dest, action.dest)
            assert name in fields, f"{action.option_strings}: neither a job's field nor left out on purpose"
            fields.discard(name)
    assert fields == {"take", "name"}


def test_no_field_names_a_file_of_the_server() -> None:
    paths = {action.dest for action in parser()._actions if action.type is Path}
    assert {"out", "model", "like"} <= paths
    assert not paths & set(sample_fields.fields())


@given(
    numbers=st.dictionaries(st.sampled_from(NUMBERS), st.floats(-1e6, 1e6, allow_nan=False)),
    style=st.none() | st.text(min_size=1, max_size=20).filter(lambda text: "\x00" not in text),
    seed=st.none() | st.integers(0, 2**62),
    variations=st.none() | st.integers(1, 100),
)
def test_arguments_say_what_the_fields_said(
    numbers: dict[str, float], style: str | None, seed: int | None, variations: int | None
) -> None:
    said = request(**numbers, style=style, seed=seed, variations=variations).said()
    options = parser().parse_args(["take.wav", *sample_fields.arguments(said)])
    assert {name: getattr(options, name) for name in numbers} == numbers
    assert (options.style, options.seed, options.variations) == (style, seed, variations)


@pytest.mark.parametrize(
    "fields",
    [
        {"variations": "2"},
        {"variations": True},
        {"variations": 2.5},
        {"variations": 0},
        {"variations": 101},
        {"seed": -1},
        {"seed": 2**62 + 1},
        {"strength": 1.01},
        {"strength": math.nan},
        {"sigma": math.inf},
        {"sigma": "1"},
        {"render": "tape"},
        {"between": [1, 2]},
        {"between": [1, 2, "3"]},
        {"style": ""},
        {"style": "x" * 201},
        {"controls": {"width_db": "6"}},
        {"controls": {"width_db": math.nan}},
        {"reference": [{"take": "../../etc/passwd"}]},
        {"reference": [{"take": TAKE, "weight": 0}]},
        {"reference": [{"take": TAKE}] * 9},
        {"like": {"job": TAKE, "mix": -1}},
        {"like": {"job": "/etc/passwd", "mix": 0}},
        {"name": "a\nb"},
        {"name": "  "},
        {"out": "/tmp"},
        {"model": "/tmp"},
        {"device": "cuda"},
        {"unheard": 1},
    ],
)
def test_what_is_no_request_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        request(**fields)


def test_a_whole_number_may_come_as_json_writes_it() -> None:
    assert request(variations=2.0).said()["variations"] == 2
