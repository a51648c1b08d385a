"""`restyler`: one entry for every command."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import soundfile

from restyler.cli import COMMANDS, main
from restyler.pipeline import VocalRestylePipeline

Lines = list[str]


def in_fresh_process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=240)


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    assert out == ""
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_a_quick_question_does_not_wait_for_torch(argument: str) -> None:
    code = (
        "import sys; from restyler.cli import main; code = main(sys.argv[1:]); sys.exit(code or 'torch' in sys.modules)"
    )
    answer = in_fresh_process(code, argument)
    assert (answer.returncode, answer.stderr) == (0, "")
    if argument == "--version":
        assert answer.stdout == f"restyler {version('vocal-restyler')}\n"
    else:
        assert all(f"\n  {name} " in answer.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no command"),
        (["smaple"], "'smaple'"),
        (["--verbose"], "'--verbose'"),
        (["styles", "--modle", "x"], "--modle"),
    ],
)
def test_an_unknown_command_is_one_clear_line(
    arguments: Lines, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in error_line(capsys)


def test_styles_are_listed_one_a_line(
    model: Path, pipeline: VocalRestylePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["styles", "--model", str(model)]) == 0
    assert capsys.readouterr().out.splitlines() == pipeline.styles


def test_styles_of_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["styles", "--model", str(tmp_path)]) == 2
    assert str(tmp_path) in error_line(capsys)


def test_the_demo_makes_four_mixes_and_a_page_again_and_again(
    model: Path, pipeline: VocalRestylePipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "demo"
    arguments = ["demo", "--model", str(model), "--out", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    names = ["take.wav", *(f"mix_0{i}.wav" for i in range(4)), "index.html"]
    assert sorted(file.name for file in out.iterdir()) == sorted(names)
    assert all(str(out / name) in printed for name in names)
    take, rate = soundfile.read(out / "take.wav")
    mixes = [soundfile.read(out / name)[0] for name in names[1:5]]
    assert all(mix.shape == (len(take), 2) for mix in mixes)
    assert rate == 48_000
    for i, mix in enumerate(mixes):
        for other in mixes[:i]:
            assert np.mean((mix - other) ** 2) > 1e-6 * np.mean(mix**2)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 5
    assert all(f"seed <b>{seed}</b>" in page for seed in range(4))
    assert all(f"style <b>{style}</b>" in page for style in pipeline.styles)

    before = {name: (out / name).read_bytes() for name in names}
    assert main(arguments) == 0
    assert {name: (out / name).read_bytes() for name in names} == before  # same take, same seeds, same bytes


def test_the_demo_needs_somewhere_to_write(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(["demo", "--model", str(model), "--out", str(tmp_path / "file" / "demo")]) == 2
    assert str(tmp_path / "file") in error_line(capsys)


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    code = "from restyler.command import command\n@command\ndef main(argv=None):\n    raise ValueError('ours')\nmain()"
    crash = in_fresh_process(code)
    assert crash.returncode == 1
    assert "Traceback" in crash.stderr
