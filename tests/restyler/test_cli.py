"""`restyler`: one entry for every command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio.io import write
from audio.waveform import Waveform
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


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--version"], 0, [f"restyler {version('vocal-restyler')}\n"]),
        (["--help"], 0, [f"\n  {name} " for name in COMMANDS]),
        (["sample", "--help"], 0, ["usage: restyler sample", "--reverb"]),
        (["sample", "take.wav", "--loud"], 2, ["error: unrecognized arguments: --loud"]),
        (["sing along"], 2, ["error: unknown command 'sing along'"]),
    ],
)
def test_a_quick_question_does_not_wait_for_torch(arguments: list[str], code: int, words: list[str]) -> None:
    ask = "import sys; from restyler.cli import main\ntry: code = main(sys.argv[1:])\n"
    ask += "except SystemExit as end: code = end.code\nsys.exit(9 if 'torch' in sys.modules else code)"
    answer = in_fresh_process(ask, *arguments)
    assert answer.returncode == code
    said, silent = (answer.stderr, answer.stdout) if code else (answer.stdout, answer.stderr)
    assert silent == "" and all(word in said for word in words)
    if arguments == ["--version"]:
        assert said == words[0]


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
    out, with_rooms = tmp_path / "new" / "demo", str(tmp_path / "model")
    (tmp_path / "card.md").write_text("A model.\n")
    assert main(["bundle", str(model), with_rooms, "--card", str(tmp_path / "card.md"), "--reverb", "bundled"]) == 0
    arguments = ["demo", "--model", with_rooms, f"--out={out}"]
    capsys.readouterr()
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    in_rooms = ["in rooms.yaml" in line for line in printed.splitlines() if "mix_0" in line]
    assert in_rooms == [True, False, True, False]  # as of `restyler sample`
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


def mix_of_another_take(path: Path, take: Waveform) -> None:
    """Ours, but not the demo's: sample.py may have written it."""
    write(path, take, tags={"model": "small", "seed": "2"})


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("take.wav", lambda path, _: path.write_bytes(b"RIFF a take of a user's own")),
        ("take.wav", lambda path, take: soundfile.write(path, take.samples.numpy().T, take.sample_rate)),
        ("mix_02.wav", mix_of_another_take),
        ("mix_03.wav", lambda path, _: path.symlink_to("elsewhere.wav")),
        ("index.html", lambda path, _: path.write_text("<!doctype html><title>A home page</title>")),
    ],
    ids=["no audio", "a take", "a mix of sample.py", "link", "page"],
)
def test_the_demo_replaces_nothing_that_is_not_its_own(
    tmp_path: Path, take: Waveform, capsys: pytest.CaptureFixture[str], name: str, make: Callable[..., object]
) -> None:
    """Said before the model is loaded: there is none here."""
    file = tmp_path / name
    make(file, take)
    before = None if file.is_symlink() else file.read_bytes()
    assert main(["demo", "--model", str(tmp_path / "absent"), "--out", str(tmp_path)]) == 2
    assert str(file) in error_line(capsys)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert before is None or file.read_bytes() == before


def test_the_demo_needs_somewhere_to_write(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(["demo", "--model", str(model), "--out", str(tmp_path / "file" / "demo")]) == 2
    assert str(tmp_path / "file") in error_line(capsys)


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    code = "from restyler.command import command\n@command\ndef main(argv=None):\n    raise ValueError('ours')\nmain()"
    crash = in_fresh_process(code)
    assert crash.returncode == 1
    assert "Traceback" in crash.stderr


# -- stdout

MANY_LINES = (
    "import sys\nfrom restyler.command import command\n@command\ndef main(argv=None):\n"
    "    for number in range(100_000): print('line', number)\n    return 0\nsys.exit(main())"
)
ONE_LINE = MANY_LINES.replace("100_000", "1")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_closes_is_no_mistake(unbuffered: str) -> None:
    """As `head` does: the exit code is that of a program which SIGPIPE ended, and nobody is told."""
    process = subprocess.Popen(
        [sys.executable, "-c", MANY_LINES],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 141


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", [ONE_LINE, "import sys; from restyler.cli import main; sys.exit(main(['-h']))"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_one_clear_line(command: str, unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [sys.executable, "-c", command],
            stdout=full, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert run.returncode == 2
    [line] = run.stderr.splitlines()
    assert line.startswith("error: standard output") and "No space left" in line


def test_a_closed_stdout_is_one_clear_line() -> None:
    run = subprocess.run(
        [sys.executable, "-c", ONE_LINE], stderr=subprocess.PIPE, text=True, preexec_fn=lambda: os.close(1)
    )
    assert (run.returncode, run.stderr) == (2, "error: standard output is closed\n")


def test_another_broken_pipe_keeps_its_traceback() -> None:
    code = "from restyler.command import command\n@command\ndef main(argv=None):\n    raise BrokenPipeError\nmain()"
    crash = in_fresh_process(code)
    assert crash.returncode == 1
    assert "Traceback" in crash.stderr
