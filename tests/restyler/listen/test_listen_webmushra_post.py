"""service/write.php: sessions as webMUSHRA's client sends them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from restyler.listen import results, storage

SESSION: dict[str, Any] = {
    "testId": "a test",
    "uuid": "1234-abcd",
    "participant": {"name": ["listener", "age"], "response": ["Ada", "36"]},
    "surveys": [],
    "trials": [
        {
            "id": "mushra-0", "type": "mushra",
            "responses": [
                {"stimulus": "reference", "score": 100, "time": 9500, "comment": ""},
                {"stimulus": "ours", "score": "64", "time": 9500, "comment": "=1+1; «10 % & more»"},
                {"stimulus": "anchor35", "score": 3, "time": 9500, "comment": None},
            ],
        },
        {
            "id": "abx-1", "type": "paired_comparison",
            "responses": [
                {"reference": "reference", "nonReference": "theirs", "answer": "incorrect", "time": 800, "comment": ""}
            ],
        },
        {
            "id": "rating-2", "type": "likert_multi_stimulus",
            "responses": [
                {"stimulus": name, "stimulusRating": f" {score} ", "time": 700}
                for name, score in (("mix", 90), ("ours", 70), ("raw", 20))
            ],
        },
        {
            "id": "acr-3", "type": "likert_single_stimulus",
            "responses": [{"stimulus": "ours", "stimulusRating": "4", "time": 700}],
        },
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def server(make_test: Callable, serve: Callable) -> Any:
    return serve(make_test("mushra", "abx", "rating", "acr"), "--webmushra")


def post(http: httpx.Client, server: Any, session: Any) -> httpx.Response:
    return http.post(f"{server.url}/service/write.php", data={"sessionJSON": json.dumps(session)})


def changed(*path: Any, value: Any) -> dict[str, Any]:
    session = copy.deepcopy(SESSION) | {"uuid": "changed"}
    place: Any = session
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return session


def test_a_session_is_answered_with_nothing_and_kept_whole(http: httpx.Client, server: Any) -> None:
    for _ in range(2):  # sent again by a client that missed the answer
        answer = post(http, server, SESSION)
        assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    rows = storage.answers(server.made.folder)
    assert {row.listener for row in rows} == {"Ada"}
    told = [(row.kind, row.condition, row.other, row.score, row.choice, row.time_s) for row in rows]
    assert told == [
        ("mushra", "reference", None, 100, None, 9.5),
        ("mushra", "ours", None, 64, None, 9.5),
        ("mushra", "anchor35", None, 3, None, 9.5),
        ("abx", "ours", "theirs", None, "incorrect", 0.8),
        ("rating", "mix", None, 90, None, 0.7),
        ("rating", "ours", None, 70, None, 0.7),
        ("rating", "raw", None, 20, None, 0.7),
        ("acr", "ours", None, 4, None, 0.7),
    ]
    assert (
        rows[1].comment == "=1+1; «10 % & more»" and rows[0].role == "reference" and rows[0].item == "item of mushra-0"
    )
    assert "'=1+1;" in results.as_csv(rows)  # no formula for a spreadsheet
    ((document,),) = storage._read(server.made.folder, "SELECT document FROM sessions")
    assert json.loads(document) == SESSION


def test_a_session_that_is_too_large_is_refused(server: Any, http: httpx.Client) -> None:
    answer = http.post(f"{server.url}/service/write.php", content=b"x" * (2**20 + 1))
    assert answer.status_code == 413 and "at most" in answer.json()["error"]


def test_older_clients_do_not_escape(http: httpx.Client, server: Any) -> None:
    session = SESSION | {"uuid": "older"}
    body = ("sessionJSON=" + json.dumps(session, ensure_ascii=False)).encode()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = http.post(f"{server.url}/service/write.php", content=body, headers=form)
    assert (answer.status_code, answer.content) == (200, b"")


def test_bs1116_becomes_the_scale_of_mushra(make_test: Callable) -> None:
    from restyler.listen.webmushra_post import posted_session, resolved

    plan = make_test("mushra").plan
    trial = plan.trials[0].model_copy(update={"stimuli": plan.trials[0].stimuli[:2]})
    plan = plan.model_copy(update={"trials": (trial,)})
    scores = {"referenceScore": 5, "nonReferenceScore": 3.5, "reference": "reference", "nonReference": "ours"}
    session = SESSION | {"participant": {}, "trials": [{"id": "mushra-0", "type": "bs1116", "responses": [scores]}]}
    ((training, rows),) = resolved(plan, posted_session(urlencode({"sessionJSON": json.dumps(session)}).encode())[0])
    assert not training
    assert [(row.listener, row.condition, row.score) for row in rows] == [
        ("1234-abcd", "reference", 100),
        ("1234-abcd", "ours", 62.5),
    ]


@pytest.mark.parametrize(
    ("session", "told"),
    [
        (changed("testId", value="another"), "runs the test 'a test'"),
        (changed("trials", 0, "id", value="mushra-9"), "'mushra-9': is no mushra page"),
        (changed("trials", 0, "type", value="paired_comparison"), "is no paired_comparison page"),
        (changed("trials", 0, "type", value="waveform"), "trials.0.type"),
        (changed("trials", 0, "responses", 0, "score", value=101), "score: a number from 0 to 100"),
        (changed("trials", 0, "responses", 0, "score", value="NaN"), "score: a number from 0 to 100"),
        (changed("trials", 0, "responses", 0, "score", value=None), "score: a number"),
        (changed("trials", 0, "responses", 0, "score", value=True), "score: a number"),
        (changed("trials", 0, "responses", 0, "stimulus", value="nobody"), "has no stimulus 'nobody'"),
        (changed("trials", 0, "responses", 0, "stimulus", value="ours"), "once each"),
        (changed("trials", 0, "responses", 0, "comment", value="x" * 2001), "at most 2000"),
        (changed("trials", 0, "responses", value=[]), "once each"),
        (changed("trials", 1, "responses", 0, "answer", value="undecided"), "correct or incorrect"),
        (changed("trials", 1, "responses", 0, "nonReference", value="ours"), "two different"),
        (changed("trials", 3, "responses", 0, "stimulusRating", value="6"), "from 1 to 5"),
        (changed("trials", value=[SESSION["trials"][0]] * 2), "twice"),
        (changed("uuid", value=""), "uuid"),
        ([], "sessionJSON"),
        ("text", "sessionJSON"),
    ],
)
def test_what_does_not_fit_the_plan_is_refused_whole(http: httpx.Client, server: Any, session: Any, told: str) -> None:
    before = storage.answers(server.made.folder) if (server.made.folder / storage.DATABASE).exists() else []
    answer = post(http, server, session)
    assert answer.status_code == 422 and told in answer.json()["error"]
    assert storage.answers(server.made.folder) == before


def test_another_session_under_the_same_uuid_is_refused(http: httpx.Client, server: Any) -> None:
    first = SESSION | {"uuid": "one"}
    assert post(http, server, first).status_code == 200
    second = changed("trials", 0, "responses", 0, "score", value=50) | {"uuid": "one"}
    assert post(http, server, second).status_code == 409
    for body in (b"", b"x=1", b"sessionJSON=", b"\xff", b"sessionJSON={", b"sessionJSON=1&sessionJSON=2"):
        assert http.post(f"{server.url}/service/write.php", content=body).status_code == 422
