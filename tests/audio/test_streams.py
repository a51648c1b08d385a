"""Audio in blocks is the audio in one piece: read, resampled, however it is cut."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audio import InputError, Waveform
from audio.io import READ_BLOCK_FRAMES, blocks, read
from audio.streams import StreamResampler, resampled


def noise(rate_hz: int, samples: int, channels: int = 2) -> Waveform:
    values = np.random.default_rng(0).normal(0, 0.2, (channels, samples))
    return Waveform(torch.from_numpy(values.astype(np.float32)), rate_hz)


def cut(waveform: Waveform, shares: list[float]) -> list[Waveform]:
    edges = [0, *sorted(round(share * waveform.samples.shape[1]) for share in shares), waveform.samples.shape[1]]
    return [Waveform(waveform.samples[:, start:stop], waveform.sample_rate) for start, stop in pairwise(edges)]


def joined(pieces: list[Waveform]) -> torch.Tensor:
    return torch.cat([piece.samples for piece in pieces], dim=1)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_blocks_of_a_file_are_the_file(tmp_path: Path, form: str) -> None:
    """MP3 included, where seeking to a block's start would miss it by some samples."""
    path = tmp_path / "take"
    whole = noise(44_100, READ_BLOCK_FRAMES * 2 + 12_345)
    soundfile.write(path, whole.samples.numpy().T, 44_100, format=form)
    pieces = list(blocks(path))
    assert len(pieces) == 3
    torch.testing.assert_close(joined(pieces), read(path).samples, atol=0, rtol=0)


def test_blocks_refuse_what_read_refuses(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, np.zeros(100), 48_000)
    with pytest.raises(InputError, match=r"short\.wav: 0\.002 s long"):
        list(blocks(path))


@pytest.mark.parametrize(
    ("old_hz", "new_hz", "seconds"),
    [
        (48_000, 16_000, 6.123),  # by the filter for integer factors
        (192_000, 16_000, 2.2),
        (44_100, 16_000, 6.2),
        (44_100, 48_000, 6.0),
        (8_000, 48_000, 17.01),
        (44_099, 16_000, 11.3),  # its grid repeats once a second; by polynomials
        (16_000, 16_000, 1.0),
    ],
)
def test_a_resampled_stream_is_the_resampled_whole(old_hz: int, new_hz: int, seconds: float) -> None:
    whole = noise(old_hz, round(seconds * old_hz))
    pieces = list(resampled(cut(whole, [0.1, 0.1001, 0.5, 0.97]), new_hz))
    assert {piece.sample_rate for piece in pieces} == {new_hz}
    torch.testing.assert_close(joined(pieces), whole.resampled(new_hz).samples, atol=1e-5, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    old_hz=st.sampled_from([11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000]),
    samples=st.integers(800, 300_000),
    shares=st.lists(st.floats(0, 1), max_size=5),
)
def test_nothing_depends_on_where_it_is_cut(old_hz: int, samples: int, shares: list[float]) -> None:
    whole = noise(old_hz, samples, channels=1)
    together = joined(list(resampled(cut(whole, shares), 24_000)))
    torch.testing.assert_close(together, whole.resampled(24_000).samples, atol=1e-5, rtol=0)


def test_a_resampler_that_was_given_nothing_has_nothing() -> None:
    with pytest.raises(ValueError, match="nothing was fed"):
        StreamResampler(48_000, 16_000).finish()
