"""What the documents tell people to type works: targets, files, options, keys and links exist."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from restyler import cli
from restyler.command import Main
from restyler.config import load_config
from restyler.settings import ANY_STYLE, NO_STYLE

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("restyler/bundled/*/*.md")])


def commands(document: Path) -> list[list[str]]:
    """The words of every command in a document's indented blocks, a trailing backslash joining lines, and `inline`."""
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    lines += re.findall(r"`([^`]+)`", "\n".join(line for line in text.splitlines() if not line.startswith("    ")))
    lines = [line.removeprefix(".venv/bin/") for line in lines]
    return [shlex.split(line, comments=True) for line in lines if re.match(r"(make|python|restyler|accelerate) ", line)]


COMMANDS = [
    pytest.param(words, id=f"{document.name}: {' '.join(words)}")
    for document in DOCUMENTS
    for words in commands(document)
]


def said_by(capsys: pytest.CaptureFixture[str], main: Main, *arguments: str) -> str:
    """What a command prints."""
    try:
        assert main(arguments) == 0
    except SystemExit as end:  # argparse ends so after its help
        assert end.code == 0  # noqa: PT017
    return capsys.readouterr().out


def explained_by(capsys: pytest.CaptureFixture[str], main: Main, *arguments: str) -> set[str]:
    return set(re.findall(r"--[a-z-]+", said_by(capsys, main, *arguments)))


def explained_by_process(script: Path) -> set[str]:
    said = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"--[a-z-]+", said))


def options(words: Sequence[str]) -> set[str]:
    return {word for word in words if word.startswith("--")}


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_in_the_documents_can_be_typed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if words[0] == "make":
        subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        return
    if words[:2] == ["python", "-m"] and words[2].startswith("restyler.bench"):
        assert options(words) <= explained_by(capsys, importlib.import_module(words[2]).main, "--help")
        return
    if words[:2] in (["restyler", "--help"], ["restyler", "--version"]):
        said_by(capsys, cli.main, words[1])
        return
    if words[0] == "restyler":
        command, arguments = words[1], words[2:]
    elif "-m" in words:  # accelerate launch … -m restyler.COMMAND …
        position = words.index("-m") + 1
        command, arguments = words[position].removeprefix("restyler."), words[position + 1 :]
        assert (ROOT / "restyler" / command / "__main__.py").is_file()
    else:  # python FILE … or accelerate launch … FILE …
        position, script = next((i, word) for i, word in enumerate(words) if word.endswith(".py"))
        assert (ROOT / script).is_file()
        command, arguments = Path(script).stem, words[position + 1 :]
        if Path(script).parent.name == "examples":  # programs of their own
            assert options(arguments) <= explained_by_process(ROOT / script)
            return
        if Path(script).parent.name == "scripts":  # of the project itself, without options
            compile((ROOT / script).read_text(), script, "exec")
            assert arguments == []
            return

    assert options(arguments) <= explained_by(capsys, cli.main, command, "--help")
    if command == "train" and arguments[:1] not in ([], ["CONFIG"]):
        load_config(ROOT / arguments[0], [word for word in arguments if re.match(r"[a-z_.]+=", word)])
    if "--style" in arguments:
        style = arguments[arguments.index("--style") + 1]
        assert style in [ANY_STYLE, NO_STYLE, *said_by(capsys, cli.main, "styles").split()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_that_exist(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
    lost = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert lost == []
