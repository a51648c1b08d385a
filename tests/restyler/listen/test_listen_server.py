"""The server of a listening test over real HTTP: a listener's way through it, and what stays of it."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import soundfile

from restyler.listen import balance, headphones, storage
from restyler.listen.flow import Flow
from restyler.listen.serve_command import main

CHOICES: dict[str, Any] = {"ab": "tie", "abx": "A", "acr": 4, "ccr": 2}
OWNER = {"Authorization": "Bearer the-owner's-token"}


def answer_page(client: Any, state: dict[str, Any]) -> None:
    client.hear_all(state)
    if state["kind"] in ("mushra", "rating"):
        for number, sound in enumerate(state["sounds"]):
            if sound["slot"] != "R":
                assert client.rate(state["page"], sound["slot"], 10.5 * number).status_code == 200
    else:
        assert client.rate(state["page"], "choice", CHOICES[state["kind"]]).status_code == 200


@pytest.fixture(scope="module")
def everything(make_test: Callable, serve: Callable) -> Any:
    made = make_test("mushra", "abx", "ab", "rating", "acr", "ccr", training=True, headphone_check=True, listeners=6)
    return serve(made)


def test_a_listener_answers_every_kind_of_page_and_the_owner_gets_all_of_it(
    everything: Any, client_of: Callable, http: httpx.Client
) -> None:
    client, made = client_of(everything, 0), everything.made
    seen = [client.begin()]
    while (state := client.state())["stage"] == "page":
        seen.append(state)
        answer_page(client, state)
        assert client.post("submit", page=state["page"]).status_code == 200
    assert state == {"stage": "finished", "text": "That was all."}
    expected = [page for page in balance.pages(made.plan, 0) if not page.trial.training]
    answers = [answer for answer in storage.answers(made.folder) if answer.listener == "L001"]
    assert {answer.trial for answer in answers} == {page.trial.id for page in expected}  # without the training page
    for page in expected:
        rows = {row.condition: row for row in answers if row.trial == page.trial.id}
        assert all(row.item == page.trial.item and row.kind == page.trial.kind for row in rows.values())
        match page.trial.kind:
            case "mushra" | "rating":
                first = 1 if page.trial.kind == "mushra" else 0  # the open reference is sent before the slots
                for place, index in enumerate(page.slots):
                    sound = page.trial.stimuli[index]
                    assert rows[sound.condition].score == 10.5 * (place + first)
                    assert rows[sound.condition].role == sound.role
            case "abx":
                is_a = page.slots[2] == page.slots[0]
                assert [row.choice for row in rows.values()] == ["correct" if is_a else "incorrect"]
            case "ab":
                assert [(row.condition, row.other, row.choice) for row in rows.values()] == [("ours", "theirs", None)]
            case "acr":
                assert rows["ours"].score == 4
            case "ccr":  # +2 for what was played second
                second = page.trial.stimuli[page.slots[1]].condition
                assert rows["ours"].other == "theirs" and rows["ours"].score == (2 if second == "ours" else -2)
    table = http.get(f"{everything.url}/owner/results.csv", headers=OWNER)
    told = http.get(f"{everything.url}/owner/results.json", headers=OWNER).json()
    lines = [line for line in csv.DictReader(io.StringIO(table.text)) if line["listener"] == "L001"]
    assert [line["condition"] for line in lines] == [answer.condition for answer in answers]
    assert len([one for one in told["answers"] if one["listener"] == "L001"]) == len(answers)
    (progress,) = [one for one in told["listeners"] if one["listener"] == "L001"]
    right = sum(headphones.correct_answer(order) == 1 for order in headphones.orders(made.plan.seed, 0))
    assert (progress["checks"], progress["checks_correct"], progress["pages_submitted"]) == (6, right, 7)
    assert progress["finished_s"] is not None


def test_nothing_can_be_skipped(everything: Any, client_of: Callable) -> None:
    client = client_of(everything, 1)
    assert client.state()["stage"] == "consent"
    assert client.post("level").status_code == 409
    assert client.post("heard", page=0, slot="A").status_code == 409
    assert client.post("consent", agree=False).status_code == 422
    assert client.post("consent", agree=True).status_code == 200
    assert client.post("check", number=0, answer=1).status_code == 409
    assert client.post("level").status_code == 200
    assert client.post("check", number=1, answer=1).status_code == 409
    assert client.rate(0, "A", 5).status_code == 409
    state = client.begin()
    assert client.post("heard", page=1, slot="A").status_code == 409
    for field in "ABC":
        assert client.rate(0, field, 50).status_code == 200
    for sound in state["sounds"]:
        refused = client.post("submit", page=0)
        assert refused.status_code == 409 and "not heard yet" in refused.json()["error"]
        assert sound["slot"] in refused.json()["error"]
        client.post("heard", page=0, slot=sound["slot"])
    assert client.post("submit", page=0).status_code == 200
    second = client.state()
    client.hear_all(second)
    refused = client.post("submit", page=1)
    assert refused.status_code == 409 and "not answered yet" in refused.json()["error"]


def test_late_duplicates_and_replays_change_nothing(everything: Any, client_of: Callable) -> None:
    client = client_of(everything, 2)
    state = client.begin()
    say = {"page": 0, "field": "A"}
    assert client.post("rating", **say, value=40, sequence=7).json() == {"saved": True, "newest": True}
    assert client.post("rating", **say, value=10, sequence=5).json() == {"saved": True, "newest": False}
    assert client.post("rating", **say, value=11, sequence=7).json() == {"saved": True, "newest": False}
    assert client.state()["values"] == {"A": 40} and client.state()["sequence"] == 7
    client.hear_all(state)
    for field in "BC":
        client.post("rating", page=0, field=field, value=1, sequence=8)
    for _ in range(3):
        assert client.post("submit", page=0).status_code == 200
    assert client.state()["page"] == 1
    late = client.post("rating", **say, value=99, sequence=99)
    assert late.status_code == 409 and "closed" in late.json()["error"]
    answers = [one for one in storage.answers(everything.made.folder) if one.listener == "L003"]
    assert answers == []  # the page was training, three times submitted or not


def test_a_killed_server_goes_on_where_the_listener_was(make_test: Callable, serve: Callable, client_of: Any) -> None:
    server = serve(make_test("mushra", "rating"))
    client = client_of(server, 0)
    client.begin()
    client.post("heard", page=0, slot="A")
    assert client.rate(0, "A", 12).status_code == 200
    assert client.rate(0, "comment", "so far").status_code == 200
    before = client.state()
    server.kill()
    with pytest.raises(httpx.HTTPError):
        client.state()
    server.start()
    assert client.state() == before  # the sounds' addresses with it
    assert before["values"] == {"A": 12, "comment": "so far"} and before["heard"] == ["A"]


def test_a_second_server_on_the_same_test_is_refused(
    everything: Any, make_test: Callable, serve: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(everything.made.folder), "--port", "0"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "another server runs this test" in err and len(err.splitlines()) == 1
    other = make_test("acr")
    assert main([str(other.folder), "--port", str(everything.port)]) == 2
    assert "cannot be listened at: Address already in use" in capsys.readouterr().err
    server = serve(other)
    assert server.terminate() == 0
    server.start()  # the lock goes with the process


@pytest.mark.parametrize("damage", ["missing", "longer", "floating", "outside", "other plan", "no test"])
def test_a_test_that_can_not_be_served_is_one_clear_line(
    damage: str, make_test: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_test("mushra")
    folder, told = made.folder, ""
    file = folder / "stimuli" / "mushra-0-2.wav"
    if damage == "missing":
        file.unlink()
        told = "mushra-0-2.wav: cannot be read"
    elif damage == "longer":
        file.write_bytes((make_test("mushra", duration_s=0.7).folder / "stimuli" / "mushra-0-2.wav").read_bytes())
        told = "sounds of one length"
    elif damage == "floating":  # would be heard as silence
        samples, rate_hz = soundfile.read(file)
        soundfile.write(file, samples, rate_hz, subtype="FLOAT")
        told = "24-bit PCM"
    elif damage == "outside":
        text = (folder / "test.json").read_text(encoding="utf-8")
        (folder / "test.json").write_text(text.replace("mushra-0-2.wav", "../test.json"), encoding="utf-8")
        told = "a plain file name"
    elif damage == "other plan":
        storage.connect(folder, made.plan).close()
        text = (folder / "test.json").read_text(encoding="utf-8")
        (folder / "test.json").write_text(text.replace('"seed": 5', '"seed": 6'), encoding="utf-8")
        told = "holds answers to another plan"
    else:
        (folder / "test.json").unlink()
        told = "is no listening test"
    assert main([str(folder), "--port", "0"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and told in err and len(err.splitlines()) == 1
    assert damage != "no test" or {file.name for file in folder.iterdir()} == {"stimuli"}


def test_a_full_disk_is_told_and_loses_nothing(make_test: Callable, serve: Callable, client_of: Callable) -> None:
    """The process may not make files longer than they are: its writes fail as on a full disk."""
    server = serve(make_test("mushra"))
    client = client_of(server, 0)
    client.begin()
    assert client.rate(0, "A", 1).status_code == 200
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    log = server.made.folder / "answers.sqlite3-wal"
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, limits[1]))
    refused = client.rate(0, "B", 2)
    assert refused.status_code == 507 and refused.json()["error"].startswith("not saved")
    assert client.state()["values"] == {"A": 1}  # reading goes on
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)
    assert client.rate(0, "B", 3).status_code == 200
    server.kill()
    server.start()
    assert client.state()["values"] == {"A": 1, "B": 3}


def test_answers_of_a_test_that_nobody_served_are_an_error(tmp_path: Path) -> None:
    from audio.errors import InputError

    with pytest.raises(InputError, match="has no answers"):
        storage.answers(tmp_path)
    (tmp_path / "answers.sqlite3").write_bytes(os.urandom(5000))
    with pytest.raises(InputError, match="cannot be read"):
        storage.answers(tmp_path)


def test_a_clock_that_is_set_back_gives_no_time_on_the_page(make_test: Callable) -> None:
    made = make_test("acr", listeners=2)
    connection = storage.connect(made.folder, made.plan)
    for listener, clock_s, told in ((0, [100.0, 112.5], 12.5), (1, [100.0, 40.0], None)):
        flow = Flow(made.plan, "secret", lambda clock_s=clock_s: clock_s[0])
        for action, body in (("consent", {"agree": True}), ("level", {})):
            flow.act(connection, listener, action, json.dumps(body).encode())
        flow.state(connection, listener)
        del clock_s[0]
        rating = {"page": 0, "field": "choice", "value": 3, "sequence": 1}
        for action, body in (("heard", {"page": 0, "slot": "A"}), ("rating", rating), ("submit", {"page": 0})):
            flow.act(connection, listener, action, json.dumps(body).encode())
        assert storage.answers(made.folder)[-1].time_s == told
    connection.close()


def test_the_state_names_no_condition_item_trial_or_file(everything: Any, client_of: Callable) -> None:
    client = client_of(everything, 3)
    state = client.begin()
    while state["stage"] == "page":
        text = json.dumps({key: value for key, value in state.items() if key not in ("question", "kind")})
        for secret in ("ours", "theirs", "reference", "anchor", "raw", "mix", "item", ".wav", "a test", "mushra-"):
            assert secret not in text
        answer_page(client, state)
        client.post("submit", page=state["page"])
        state = client.state()
