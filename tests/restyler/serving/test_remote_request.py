"""What `restyler remote` asks for is what `restyler sample` with the same words would do."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.errors import InputError
from restyler import remote, sample
from restyler.remote_request import LOCAL, RENAMED, UPLOADED, request, wishes
from restyler.sample_plan import CHAINS
from restyler.serving import sample_fields
from restyler.serving.requests import JobRequest

TAKE = "A" * 16
HERE = ["take.wav", "--server", "http://127.0.0.1:8765"]


def options_of_a_job() -> list[argparse.Action]:
    return [
        action
        for action in sample.parser()._actions
        if action.dest not in remote.HERE_ONLY | LOCAL | UPLOADED | {"control", *CHAINS}
    ]


def words(action: argparse.Action) -> st.SearchStrategy[list[str]]:
    """What may stand on a command line for this option."""
    if action.nargs == 0:
        return st.just([])
    kind: Any = action.type
    if action.choices is not None:
        return st.sampled_from(list(action.choices)).map(lambda value: [str(value)])
    if kind in (str, None):
        return st.sampled_from(["warm plate", "-odd", "any", "none", "ü=1"]).map(lambda value: [value])
    lowest, highest = getattr(kind, "lowest", -50), getattr(kind, "highest", 50)
    whole = getattr(kind, "kind", kind) is int
    one = st.integers(int(lowest), int(highest)) if whole else st.floats(lowest, highest)
    return st.lists(one.map(str), min_size=action.nargs or 1, max_size=action.nargs or 1)  # type: ignore[arg-type]


def asked(arguments: list[str]) -> dict[str, Any]:
    parser = remote.parser()
    options = parser.parse_args([*HERE, *arguments])
    return request(wishes(options, remote.shared_options(), parser), take=TAKE, references=[], like=None)


@pytest.mark.parametrize("word", ["bundled", "none"])
def test_what_reverb_has_a_word_for_is_no_file(word: str) -> None:
    there = JobRequest(**asked(["--reverb", word])).said()
    assert there["reverb"] == word
    assert "reverb" not in JobRequest(**asked([])).said()  # then the model there decides


@settings(max_examples=25)
@given(st.data())
def test_every_option_arrives_at_the_worker_as_it_was_said(data: st.DataObject) -> None:
    said = []
    for action in options_of_a_job():
        if data.draw(st.booleans()):
            option, values = action.option_strings[-1], data.draw(words(action))
            said += [option, *values] if action.nargs else [f"{option}={values[0]}"] if values else [option]
    there = JobRequest(**asked(said))
    arrived = sample.parser().parse_args(["take.wav", *sample_fields.arguments(there.said())])
    assert vars(arrived) == vars(sample.parser().parse_args(["take.wav", *said]))


@pytest.mark.parametrize("action", options_of_a_job(), ids=lambda action: action.dest)
def test_no_option_is_dropped(action: argparse.Action) -> None:
    kind: Any = action.type
    values = {"between": ["1", "2", "3"], "style": ["hall"]}
    number = [str(getattr(kind, "highest", 5))] if action.nargs != 0 else []
    other = [choice for choice in action.choices or () if choice != action.default]
    value = values.get(action.dest, other[:1] or number)
    option = action.option_strings[-1]
    found = asked([option, *value] if action.nargs else [f"{option}={value[0]}"])
    assert found.keys() == {"take", RENAMED.get(action.dest, action.dest)} <= JobRequest.model_fields.keys()
    assert asked([]) == {"take": TAKE}


def test_controls_references_and_the_liked_mix_have_their_own_form() -> None:
    parser = remote.parser()
    options = parser.parse_args([*HERE, "--control", "width_db=6", "--control=space_db=-1"])
    wished = wishes(options, remote.shared_options(), parser)
    found = request(wished, take=TAKE, references=[("B" * 16, 2.0)], like=("C" * 16, 3))
    assert found == {
        "take": TAKE,
        "controls": {"width_db": 6.0, "space_db": -1.0},
        "reference": [{"take": "B" * 16, "weight": 2.0}],
        "like": {"job": "C" * 16, "mix": 3},
    }
    assert JobRequest(**found).said() == found


def test_a_chain_is_sent_as_its_text_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "räume.yaml"
    file.write_text("styles: {one: [{gain: {gain_db: -3}}]}  # ü", encoding="utf-8")
    for name in CHAINS:
        found = asked([f"--{name}", str(file)])
        assert found == {"take": TAKE, name: {"name": "räume.yaml", "yaml": file.read_text(encoding="utf-8")}}
        assert JobRequest(**found).said() == found
    for content, told in ((b"#" * 8001, "up to 8000 signs"), (b"\xff", "not UTF-8 text"), (b"#" * 10**6, "8000|long")):
        file.write_bytes(content)
        with pytest.raises(InputError, match=told):
            asked(["--after", str(file)])


def test_what_is_not_asked_for_is_what_a_job_of_the_service_can_not_have() -> None:
    assert remote.HERE_ONLY | LOCAL == sample_fields.ELSEWHERE


def test_the_command_has_every_option_of_sample_but_those_of_the_machine() -> None:
    here = {action.dest: action for action in remote.parser()._actions}
    for action in sample.parser()._actions:
        if action.dest in remote.HERE_ONLY - {"help"}:
            assert action.dest not in here
        else:
            assert vars(here[action.dest])["help"] == action.help
    assert here.keys() - {action.dest for action in sample.parser()._actions} == {
        "server", "key_file", "wait", "forget",
    }  # fmt: skip
    assert not any(
        "key" in option and option != "--key-file" for each in here.values() for option in each.option_strings
    )


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ("127.0.0.1:8765", "a server is named like"),
        ("ftp://example.org", "a server is named like"),
        ("http://", "a server is named like"),
        ("http://127.0.0.1:8765/#key=secretsecret", "without a key"),
        ("http://user:secretsecret@example.org", "without a key"),
        ("http://example.org/?key=secretsecret", "without a key"),
        ("http://[::1", "a server is named like"),
        ("http://a b/", "a server is named like"),
    ],
)
def test_a_server_that_is_none_is_one_line_without_the_key(
    server: str, reason: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, vocal_file: Any
) -> None:
    monkeypatch.setenv(remote.KEY_VARIABLE, "k" * 20)
    assert remote.main([str(vocal_file("take.wav")), "--server", server]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and reason in said and "secretsecret" not in said


@pytest.mark.parametrize(
    "key", ["", " ", "zwei worte-geheim", "geheim\r\nX-Evil: 1", "schlüssel-geheim", "geheim" * 100]
)
def test_a_key_that_is_none_is_one_line_without_it(
    key: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, vocal_file: Any
) -> None:
    monkeypatch.setenv(remote.KEY_VARIABLE, key)
    assert remote.main([str(vocal_file("take.wav")), "--server", "http://127.0.0.1:1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "key" in said and "geheim" not in said


def test_a_key_comes_from_the_first_line_of_a_file_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(remote.KEY_VARIABLE, "of-the-environment")
    file = tmp_path / "key"
    file.write_text("  of-the-file \nmore\n")
    assert remote.read_key(file) == "of-the-file"
    assert remote.read_key(None) == "of-the-environment"
    for content in (b"", b"\n\n", b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="no key in its first line"):
            remote.read_key(file)
    with pytest.raises(ValueError, match="cannot be read"):
        remote.read_key(tmp_path / "none")
