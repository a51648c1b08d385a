"""`restyler sing`: takes that are whole, safe and different, and the same every time."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from restyler.phrases import find_recordings
from restyler.sing import main


def run(out: Path, *options: str) -> list[np.ndarray]:
    assert main([str(out), "--voices", "2", "--seconds", "1.5", *options]) == 0
    return [soundfile.read(recording.path)[0] for recording in find_recordings([out], None)]


def test_every_voice_is_a_singer_of_its_own_and_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a")
    assert {recording.singer for recording in find_recordings([tmp_path / "a"], None)} == {"voice_0000", "voice_0001"}
    for take in (first, second):
        assert take.ndim == 1 and len(take) >= 1.5 * 48000
        assert 0.4 < np.abs(take).max() <= 10 ** (-6 / 20)  # the true peak is at −6 dBTP, the largest sample just below
    shared = min(len(first), len(second))
    assert abs(np.corrcoef(first[:shared], second[:shared])[0, 1]) < 0.2
    again = run(tmp_path / "b")
    assert all(np.array_equal(one, other) for one, other in zip((first, second), again, strict=True))
    other_seed = run(tmp_path / "c", "--seed", "1")
    assert not np.array_equal(first[20_000:40_000], other_seed[0][20_000:40_000])


def test_it_never_mixes_with_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main([str(tmp_path), "--voices", "1"]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("place", ["file", "file/below", "x" * 300, "/proc/voices", "loop"])
def test_an_output_that_cannot_be_used_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    if place.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("needs a Linux /proc")
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "loop").symlink_to("loop")
    assert main([str(tmp_path / place), "--voices", "1", "--seconds", "1"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path / place}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


def test_a_folder_that_may_not_be_read_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory() as name:  # not tmp_path: only its owner may enter that
        folder = Path(name) / "closed"
        folder.mkdir()
        folder.parent.chmod(0o755)
        folder.chmod(0o333)
        root = os.geteuid() == 0
        if root:  # root may read everything
            os.seteuid(65534)
        try:
            assert main([str(folder), "--voices", "1", "--seconds", "1"]) == 2
        finally:
            if root:
                os.seteuid(0)
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"error: {folder}: cannot be read: Permission denied"
