"""`restyler serve` and `restyler keys` as they are typed."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from pathlib import Path

import pytest

from restyler.serving import Limits
from restyler.serving.command import is_loopback, main, parser
from restyler.serving.keys import by_key
from restyler.serving.keys_command import main as keys_main
from restyler.serving.refusals import RefusedError
from restyler.serving.storage import DATABASE, Storage


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and len(err.splitlines()) == 1, (out, err)
    return err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "nowhere"], "nowhere"),
        (["--port", "70000"], "70000"),
        (["--limit-queue", "0"], "--limit-queue"),
        (["--limit-age-days", "nan"], "--limit-age-days"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--allow-origin", "*"], "an origin is needed"),
        (["--allow-origin", "https://a.example/page"], "an origin is needed"),
        (["--workers", "2"], "--workers needs --executor ray"),
        (["--gpus", "1"], "--gpus needs --executor ray"),
        (["--ray-address", "auto"], "--ray-address needs --executor ray"),
        (["--host", "192.0.2.1"], "cannot be listened at"),
        (["--executor", "tape"], "tape"),
    ],
)
def test_what_can_not_be_served(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["--data", str(tmp_path / "data"), "--port", "0", *arguments]) == 2
    assert said in one_line(capsys)
    assert not (tmp_path / "data" / DATABASE).exists()


def test_every_limit_is_an_option() -> None:
    for field in dataclasses.fields(Limits):
        name = f"limit_{field.name}"
        assert getattr(parser().parse_args([]), name) == field.default
        given = parser().parse_args([f"--{name.replace('_', '-')}={field.metadata['highest']}"])
        assert getattr(given, name) == field.metadata["highest"]


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("studio.example", False)],
)
def test_which_addresses_only_this_computer_reaches(host: str, alone: bool) -> None:
    assert is_loopback(host) == alone


def test_keys_are_made_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert keys_main([str(tmp_path), "add", "Ada Lovelace"]) == 0
    key = capsys.readouterr().out.strip()
    assert len(key) == 43
    assert keys_main([str(tmp_path), "list"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("Z  Ada Lovelace") and key not in line
    from fastapi.security import HTTPAuthorizationCredentials

    with contextlib.closing(Storage(tmp_path, time.time)) as storage:
        owner, bearer = by_key(storage, None), HTTPAuthorizationCredentials(scheme="Bearer", credentials=key)
        assert owner(bearer) == "Ada Lovelace"
        assert keys_main([str(tmp_path), "revoke", "Ada Lovelace"]) == 0
        with pytest.raises(RefusedError):
            owner(bearer)
    assert keys_main([str(tmp_path), "list"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add"], "needs a NAME"),
        (["list", "ada"], "needs no name"),
        (["add", "local"], "local page"),
        (["add", "a\nb"], "printable"),
        (["add", "x" * 101], "up to 100"),
        (["add", "ada"], "already"),
        (["revoke", "bob"], "no key has that name"),
        (["sell", "ada"], "sell"),
    ],
)
def test_keys_that_can_not_be(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert keys_main([str(tmp_path), "add", "ada"]) == 0
    capsys.readouterr()
    assert keys_main([str(tmp_path), *arguments]) == 2
    assert said in one_line(capsys)


@pytest.mark.parametrize("what", ["add", "list"])
def test_keys_need_a_folder_of_the_service(what: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert keys_main([str(tmp_path / "nowhere"), what, *(["ada"] if what == "add" else [])]) == 2
    assert "no folder" in one_line(capsys)
    assert keys_main([str(tmp_path), "list"]) == 2
    assert DATABASE in one_line(capsys)
