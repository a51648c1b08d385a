"""A stretch of a file is what the whole file holds there, whatever the format and the order."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio.io import read
from restyler.prepare.reading import StretchReader


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg"])
def test_any_stretch_is_what_reading_all_gives(tmp_path: Path, suffix: str) -> None:
    random = np.random.default_rng(0)
    soundfile.write(tmp_path / f"a{suffix}", 0.1 * random.standard_normal((44100 * 30, 2)), 44100)
    whole = read(tmp_path / f"a{suffix}").samples
    reader = StretchReader(tmp_path / f"a{suffix}")
    starts = [0.0, 0.5, 3.25, 2.0, 2.0, 17.0, 16.5, 28.9, 1.0, 29.0, 0.0]
    for start in starts:
        expected = whole[:, round(start * 44100) : round((start + 2.5) * 44100)]
        found = reader.stretch(start, start + 2.5)
        assert found.shape == (2, round((start + 2.5) * 44100) - round(start * 44100))
        torch.testing.assert_close(found[:, : expected.shape[1]], expected, rtol=0, atol=0)
        assert not found[:, expected.shape[1] :].any()


def test_around_a_file_is_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(8000, 0.5), 8000)
    reader = StretchReader(tmp_path / "a.wav")
    np.testing.assert_array_equal(reader.stretch(-1.0, 2.0)[0], np.repeat([0.0, 0.5, 0.0], 8000))
    assert not reader.stretch(-3.0, -1.0).any()
    assert not reader.stretch(5.0, 6.0).any()
    assert reader.stretch(0.0, 1.0).all()


def test_only_a_few_seconds_are_held(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((48000 * 120, 2)), 48000)
    reader = StretchReader(tmp_path / "a.wav")
    reader.stretch(110.0, 112.0)
    assert reader._held.shape[1] < 48000 * 16
