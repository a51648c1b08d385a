"""`restyler separate` run again: over vocals that were damaged or changed since, and over records that were edited."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from restyler.separate import main

RATE = 44_100


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with random weights, as demucs keeps it."""
    if find_spec("demucs") is None:
        pytest.skip("needs the extra: pip install -e '.[separate]'")
    from demucs.htdemucs import HTDemucs
    from demucs.states import get_state, save_with_checksum

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = HTDemucs(
            ["other", "vocals"], channels=8, depth=3, nfft=512, t_layers=1, t_heads=2, bottom_channels=16, segment=1
        )
    args, kwargs = model._init_args_kwargs
    folder = tmp_path_factory.mktemp("weights")
    package = {"klass": type(model), "args": args, "kwargs": kwargs, "state": get_state(model, None)}
    save_with_checksum(package, folder / "small.th")
    return folder


def separate(folder: Path, weights: Path) -> int:
    arguments = ["--out", str(folder / "out"), "--model", "small", "--weights", str(weights), "--device", "cpu"]
    return main([str(folder / "songs"), *arguments])


@pytest.fixture(scope="module")
def separated(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two songs and their vocals: of one the bleed could be measured, the other is too short for that."""
    folder = tmp_path_factory.mktemp("separated")
    (folder / "songs").mkdir()
    for name, seconds in (("long", 6), ("short", 1)):
        noise = np.random.default_rng(seconds).uniform(-0.3, 0.3, (seconds * RATE, 2))
        soundfile.write(folder / "songs" / f"{name}.wav", noise, RATE)
    assert separate(folder, weights) == 0
    return folder


@pytest.fixture
def out(separated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The vocals, to be damaged; the songs lie beside them."""
    shutil.copytree(separated, tmp_path, dirs_exist_ok=True)
    capsys.readouterr()
    return tmp_path / "out"


@pytest.fixture
def run(weights: Path, tmp_path: Path) -> Callable[[], int]:
    """Separates the songs again; the exit code."""
    return lambda: separate(tmp_path, weights)


def error(capsys: pytest.CaptureFixture[str]) -> str:
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"not audio at all",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data[:100_000] + bytes(5) + data[100_005:],
    ],
    ids=["empty", "garbage", "half", "a byte short", "five bytes lost"],
)
def test_a_damaged_vocal_is_separated_again_and_says_so(
    run: Callable[[], int], out: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[bytes], bytes]
) -> None:
    before = contents(out)
    kept_ns = (out / "long.flac").stat().st_mtime_ns
    (out / "short.flac").write_bytes(damage(before["short.flac"]))
    assert run() == 0
    assert contents(out) == before
    assert (out / "long.flac").stat().st_mtime_ns == kept_ns
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{out / 'short.flac'}: damaged since it was written, separated again"
    assert [line.split("  ")[0] for line in said[1:-1]] == [str(out / "short.flac")]


def test_a_run_that_stops_before_a_damaged_vocal_is_replaced_can_go_on(
    run: Callable[[], int], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        """Where somebody presses Ctrl-C as soon as the first vocal is done."""

        def write(self, text: str) -> int:
            if "long.flac  bleed" in text:
                raise KeyboardInterrupt
            return super().write(text)

    before = contents(out)
    for name in ("long.flac", "short.flac"):
        (out / name).write_bytes(b"garbage")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Terminal())
        assert run() == 130
    assert contents(out) == before | {"short.flac": b"garbage"}
    assert run() == 0
    assert contents(out) == before


def test_a_vocal_that_somebody_changed_is_refused_and_kept(
    run: Callable[[], int], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocal, _ = soundfile.read(out / "short.flac")
    for changed in (vocal[: RATE // 2], 0.5 * vocal):  # another length; the same length
        soundfile.write(out / "short.flac", changed, RATE, subtype="PCM_24")
        before = contents(out)
        assert run() == 2
        assert f"{out / 'short.flac'}: no longer the vocal that was written" in error(capsys)
        assert contents(out) == before
    (out / "short.flac").unlink()
    (out / "short.flac").mkdir()
    assert run() == 2
    assert f"{out / 'short.flac'}: not a file" in error(capsys)


def test_a_song_whose_name_is_no_utf8_is_refused_before_any_is_separated(
    run: Callable[[], int], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(out)
    songs = out.with_name("songs")
    (songs / "short.wav").rename(songs / os.fsdecode(b"z\xff.wav"))
    assert run() == 2
    line = error(capsys)
    assert "z\\udcff.wav" in line and "no UTF-8" in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("stem", "edit"),
    [
        ("long", {"bleed_db": None}),
        ("long", {"bleed_db": "a"}),
        ("long", {"bleed_db": True}),
        ("long", {"bleed_db": float("nan")}),
        ("long", {"unmeasured": None}),
        ("long", {"unmeasured": "too_short"}),
        ("long", {"gain_db": None}),
        ("long", {"vocal_sha256": None}),
        ("short", {"unmeasured": ""}),
        ("short", {"unmeasured": ["too_short"]}),
        ("short", {"bleed_db": -30.0}),
    ],
)
def test_a_record_of_wrong_types_is_one_clear_line(
    run: Callable[[], int], out: Path, capsys: pytest.CaptureFixture[str], stem: str, edit: dict[str, Any]
) -> None:
    record = json.loads((out / "separation.json").read_text())
    assert isinstance(record["songs"]["long"]["bleed_db"], float)
    assert record["songs"]["short"]["unmeasured"] == "too_short"
    record["songs"][stem] |= edit
    (out / "separation.json").write_text(json.dumps(record))
    before = contents(out)
    assert run() == 2
    assert f"{out / 'separation.json'}: cannot be read as the record of a separation" in error(capsys)
    assert contents(out) == before
