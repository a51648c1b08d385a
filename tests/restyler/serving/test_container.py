"""The Containerfile, read: from the lock, as an ordinary user, nothing written but data and /tmp, its health asked."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from restyler import cli

ROOT = Path(__file__).resolve().parents[3]
Instructions = list[tuple[str, str]]


@pytest.fixture
def stages() -> list[Instructions]:
    """Of the Containerfile: per stage its instructions with their arguments, in order."""
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    joined = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^\s*#.*\n", "", text))
    found: list[Instructions] = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def only(stage: Instructions, word: str) -> str:
    (rest,) = (rest for each, rest in stage if each == word)
    return rest


def test_it_installs_the_versions_of_the_lock_and_of_nothing_else(stages: list[Instructions]) -> None:
    build = stages[0]
    assert "PIP_CONSTRAINT=/source/requirements.lock" in only(build, "ENV")
    installs = [rest for word, rest in build if word == "RUN"]
    assert all("pip check" in rest for rest in installs) and "apt-get" not in " ".join(installs)
    copied = [source for word, rest in build if word == "COPY" for source in rest.split()[:-1]]
    assert all((ROOT / source).exists() for source in copied)
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) <= kept, "the build context would lack what is copied"
    assert {"audio", "codec", "conditioning", "diffusion", "restyler"} <= set(copied)
    assert not kept & {".git", ".venv", "tests", "runs", "."}


def test_it_runs_as_an_ordinary_user_who_owns_the_data_alone(stages: list[Instructions]) -> None:
    run = stages[-1]
    words = [word for word, _ in run]
    assert words.index("USER") < words.index("ENTRYPOINT") and "USER" not in words[words.index("USER") + 1 :]
    user, group = only(run, "USER").split(":")
    assert int(user) > 0 and int(group) > 0
    assert f"--uid {user}" in only(run, "RUN") and "--mode=0700 /data" in only(run, "RUN")
    assert only(run, "VOLUME") == "/data"
    assert "PYTHONDONTWRITEBYTECODE=1" in only(run, "ENV"), "a read-only file system would be written to"
    assert [rest for word, rest in run if word == "COPY"] == ["--from=build /opt/restyler /opt/restyler"]


def test_its_command_is_one_of_the_program_and_listens_where_its_health_is_asked(stages: list[Instructions]) -> None:
    run = stages[-1]
    (program,), (name, *arguments) = json.loads(only(run, "ENTRYPOINT")), json.loads(only(run, "CMD"))
    assert program == "restyler" and name in cli.COMMANDS
    said = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert said == {"--host": "0.0.0.0", "--port": only(run, "EXPOSE"), "--data": "/data"}
    assert f"http://127.0.0.1:{only(run, 'EXPOSE')}/healthz" in only(run, "HEALTHCHECK")
    probe = json.loads(only(run, "HEALTHCHECK").partition(" CMD ")[2])
    assert probe[:2] == ["python", "-c"] and compile(probe[2], "probe", "exec")


def test_no_base_is_whatever_is_the_latest(stages: list[Instructions]) -> None:
    for stage in stages:
        image = only(stage, "FROM").split(" ")[0]
        assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-\w+", image)


def test_the_linter_of_containers_has_nothing_to_say() -> None:
    if shutil.which("hadolint") is None:
        pytest.skip("needs hadolint")
    linted = subprocess.run(["hadolint", str(ROOT / "Containerfile")], capture_output=True, text=True)
    assert (linted.returncode, linted.stdout) == (0, "")
