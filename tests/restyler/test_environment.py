"""What is recorded of a run's environment: the code's own revision, true versions, and nobody's name."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from restyler import environment as module

CPU = torch.device("cpu")
NO_GIT = shutil.which("git") is None
needs_git = pytest.mark.skipif(NO_GIT, reason="needs git")
Record = Callable[[], dict[str, Any]]


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def environment_of(file: Path) -> Record:
    """The function of the copy of our module that lies at `file`."""
    spec = importlib.util.spec_from_file_location("copied_environment", file)
    assert spec is not None and spec.loader is not None
    copied = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copied)
    return lambda: copied.environment(CPU)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A repository with our module in it, not committed yet."""
    (tmp_path / "restyler").mkdir()
    git(tmp_path, "init", "--quiet")
    return Path(shutil.copy(str(module.__file__), tmp_path / "restyler"))


@pytest.fixture
def record(code: Path) -> Record:
    git(code.parent, "add", ".")
    git(code.parent, "commit", "--quiet", "--message", "one")
    return environment_of(code)


@needs_git
def test_the_revision_is_that_of_the_code_wherever_it_is_run(
    record: Record, code: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    git(elsewhere, "init", "--quiet")
    git(elsewhere, "commit", "--quiet", "--allow-empty", "--message", "two")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("GIT_DIR", str(elsewhere / ".git"))  # as inside a hook
    found = record()
    monkeypatch.delenv("GIT_DIR")
    assert found["revision"] == git(code.parent, "rev-parse", "HEAD") != git(elsewhere, "rev-parse", "HEAD")
    assert found["dirty"] is False


@needs_git
def test_changed_code_is_dirty_and_a_new_folder_is_not(record: Record, code: Path) -> None:
    (code.parent / "runs").mkdir()
    (code.parent / "runs" / "metrics.jsonl").write_text("{}\n")
    assert record()["dirty"] is False
    code.write_text(code.read_text() + "\n# changed\n")
    assert record()["dirty"] is True


@needs_git
def test_code_that_a_repository_does_not_track_has_no_revision(code: Path) -> None:
    """As in an environment that lies in another project's folder."""
    git(code.parent, "commit", "--quiet", "--allow-empty", "--message", "theirs")
    found = environment_of(code)()
    assert (found["revision"], found["dirty"]) == (None, None)


def test_without_git_there_is_no_revision_and_all_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usual = module.environment(CPU)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module.environment(CPU) == usual | {"revision": None, "dirty": None}


def test_versions_are_those_in_use() -> None:
    found = module.environment(CPU)
    assert found["python"] == platform.python_version()
    assert found["packages"]["torch"] == torch.__version__
    assert {name: found["packages"][name] for name in ("diffusers", "numpy")} == {
        name: version(name) for name in ("diffusers", "numpy")
    }
    assert found["packages"]["vocal-restyler"]
    assert found["cpus"] == os.cpu_count()


def test_it_is_json_and_names_nobody() -> None:
    found = module.environment(CPU)
    text = json.dumps(found)
    assert json.loads(text) == found
    assert "/" not in text and "\\" not in text  # neither a path nor an address
    assert platform.node() not in text.replace('"', " ").replace(",", " ").split()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_told_with_its_memory() -> None:
    found = module.environment(torch.device("cuda"))
    assert [device["name"] for device in found["devices"]] == [
        torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())
    ]
    assert all(device["memory_gib"] > 1 for device in found["devices"])
    assert found["cuda"] == torch.version.cuda
    assert isinstance(found["cudnn"], int)
