"""Takes, options and outputs that can't work: one clear line, exit code 2, nothing half-written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile

from restyler.sample import main

Run = Callable[..., int]


def truncated(folder: Path) -> Path:
    whole = folder / "whole.wav"
    soundfile.write(whole, np.sin(np.arange(48_000) * 0.05) * 0.3, 48_000)
    (folder / "cut.wav").write_bytes(whole.read_bytes()[:40_000])
    return folder / "cut.wav"


def written(folder: Path, samples: np.ndarray, rate: int = 48_000, subtype: str = "PCM_16") -> Path:
    soundfile.write(folder / "bad.wav", samples, rate, subtype=subtype)
    return folder / "bad.wav"


def raw_bytes(folder: Path, data: bytes) -> Path:
    (folder / "bad.wav").write_bytes(data)
    return folder / "bad.wav"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.wav")
    return folder / "pipe.wav"


def unreadable(folder: Path) -> Path:
    """A link to itself: no user can open it, not even root."""
    (folder / "loop.wav").symlink_to("loop.wav")
    return folder / "loop.wav"


def empty_folder(folder: Path) -> Path:
    (folder / "nothing").mkdir()
    return folder / "nothing"


def at_lufs(loudness_lufs: float) -> np.ndarray:
    return TONE * 10 ** ((loudness_lufs - pyloudnorm.Meter(48_000).integrated_loudness(np.stack([TONE] * 2, 1))) / 20)


TONE_30_KHZ = np.sin(np.arange(96_000) * 2 * np.pi * 30 / 96)
TONE = np.sin(np.arange(48_000) * 0.05) * 0.3
BAD_TAKES: dict[str, Callable[[Path], Path]] = {
    "missing": lambda folder: folder / "missing.wav",
    "empty": lambda folder: raw_bytes(folder, b""),
    "truncated": truncated,
    "zero-length": lambda folder: written(folder, np.zeros(0)),
    "silent": lambda folder: written(folder, np.zeros(48_000)),
    "as good as silent": lambda folder: written(folder, TONE * 10 ** (-75 / 20), subtype="FLOAT"),
    "hardly there": lambda folder: written(folder, at_lufs(-69.9), subtype="FLOAT"),
    "too quiet": lambda folder: written(folder, at_lufs(-61), subtype="FLOAT"),
    "above hearing": lambda folder: written(folder, np.hanning(96_000) * TONE_30_KHZ, rate=96_000, subtype="FLOAT"),
    "not audio": lambda folder: raw_bytes(folder, b"Dear diary, today I sang.\n" * 99),
    "not finite": lambda folder: written(folder, np.where(np.arange(48_000) == 9, np.nan, TONE), subtype="FLOAT"),
    "8 channels": lambda folder: written(folder, np.stack([TONE] * 8, axis=1)),
    "1 Hz": lambda folder: written(folder, TONE, rate=1),
    "50 ms": lambda folder: written(folder, TONE[:2_400]),
    "no file": pipe,
    "unreadable": unreadable,
    "folder without audio": empty_folder,
    "name too long": lambda folder: folder / ("x" * 300 + ".wav"),
}


@pytest.mark.parametrize("bad", BAD_TAKES.values(), ids=BAD_TAKES)
def test_a_bad_take_refuses_the_whole_call(
    sample: Run, vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    bad: Callable[[Path], Path],
) -> None:  # fmt: skip
    culprit = bad(tmp_path)
    assert sample(vocal_file("good.wav"), culprit, "--variations", 1) == 2
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    assert line.startswith("error: ")
    assert str(culprit) in line
    assert out == ""
    assert not (tmp_path / "out").exists()


def test_the_quietest_take_that_is_restyled(sample: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample(written(tmp_path, at_lufs(-59), subtype="FLOAT"), "--variations", 1) == 0
    samples, rate = soundfile.read(tmp_path / "out" / "bad" / "mix_00.wav")
    assert pyloudnorm.Meter(rate).integrated_loudness(samples) == pytest.approx(-59, abs=0.1)
    assert sample(written(tmp_path, at_lufs(-61), subtype="FLOAT"), "--overwrite") == 2
    assert "bad.wav: too quiet: -61.0 LUFS; at least -60 LUFS needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variations", "0"], "1 to 100"),
        (["--variations", "many"], "'many'"),
        (["--steps", "-1"], "1 to 1000"),
        (["--steps", "1e3"], "steps"),
        (["--style", "dry booth", "--guidance", "nan"], "guidance"),
        (["--style", "dry booth", "--guidance", "1e9"], "0 to 20"),
        (["--style", "none", "--guidance", "2"], "--style"),
        (["--sigma", "-0.1"], "0 to 2"),
        (["--seed", "-1"], "seed"),
        (["--seed", "99999999999999999999"], "seed"),
        (["--lufs", "nan"], "-60 to 0"),
        (["--lufs", "3"], "-60 to 0"),
        (["--batch", "0"], "1 to 100"),
        (["--device", "abacus"], "cpu"),
        (["--style", "warm plait"], "did you mean 'warm plate'"),
        (["--control", "spice_db=1"], "space_db"),
        (["--control", "space_db"], "NAME=NUMBER"),
        (["--control", "space_db=1", "--control", "space_db=2"], "once"),
        (["--reference", "absent.wav"], "absent.wav"),
        (["--model", "absent"], "absent"),
        (["--model", "."], "not a model folder"),
        (["--varations", "2"], "--varations"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_bad_option_is_one_clear_line(
    sample: Run, vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    assert sample(vocal_file("take.wav"), *arguments) == 2
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert out == ""
    assert not (tmp_path / "out").exists()


def test_no_take_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "TAKE" in line


@pytest.mark.parametrize("place", ["file/out", "x" * 300, "/proc/out"], ids=["file", "too long", "proc"])
def test_output_that_cannot_be_written_is_found_before_anything_is_made(
    sample: Run, vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    if place.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("needs a Linux /proc")
    (tmp_path / "file").write_text("in the way")
    good, blocked = vocal_file("a.wav"), vocal_file("b.wav")
    out = tmp_path / place
    assert sample(good, blocked, "--out", out) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert str(out) in line
    assert list(tmp_path.glob("out")) == []


def test_folders_made_before_the_failure_are_removed(
    sample: Run, vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b").write_text("a file where the folder should be")
    assert sample(vocal_file("a.wav"), vocal_file("b.wav")) == 2
    assert str(tmp_path / "out" / "b") in capsys.readouterr().err
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["b"]
