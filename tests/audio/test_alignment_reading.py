"""A mix read on its take's time: each sample is where arithmetic puts it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, lfilter

from audio.alignment import Alignment, Region
from audio.alignment_reading import aligned

RATE_HZ = 48_000
PARTIALS = ((220.0, 0.0), (1234.5, 1.0), (9876.0, 2.0), (15_000.0, 0.3))


def sound(time_s: np.ndarray) -> np.ndarray:
    return sum((0.1 * np.sin(2 * np.pi * hz * time_s + phase) for hz, phase in PARTIALS), np.zeros_like(time_s))


def alignment_of(rate: float, polarity: int, region: Region) -> Alignment:
    return Alignment((region,), rate, polarity, 1.0, 1.0, 1.0, 0.0)


class Mix:
    """A stretch of samples that is read as a file would be, and tells whether it was asked for whole samples."""

    def __init__(self, samples: np.ndarray) -> None:
        self.samples = samples
        self.longest = 0

    def __call__(self, start_s: float, stop_s: float) -> np.ndarray:
        start, stop = round(start_s * RATE_HZ), round(stop_s * RATE_HZ)
        assert start_s * RATE_HZ == pytest.approx(start, abs=1e-6) and 0 <= start <= stop
        self.longest = max(self.longest, stop - start)
        return self.samples[:, start:stop]


@pytest.mark.parametrize("rate", [1.0, 1.0001, 0.99999, 48 / 44.1, 44.1 / 48])
@pytest.mark.parametrize(("offset_s", "polarity"), [(-0.2, 1), (1.234_567_8, -1)])
def test_every_sample_is_the_takes(rate: float, offset_s: float, polarity: int) -> None:
    """−100 dB, up to 15 kHz, from the first sample to the last; two channels of different levels."""
    time_s = (np.arange(6 * RATE_HZ) / RATE_HZ - offset_s) / rate
    mix = Mix(polarity * np.array([[1.0], [0.5]]) * sound(time_s))
    region = Region(max(0.0, -offset_s / rate), 4.0, offset_s)
    for start_s, stop_s in ((1.0, 2.0), (1.234_567, 3.1), (0.5, 0.500_1)):
        heard = aligned(mix, alignment_of(rate, polarity, region), region, start_s, stop_s, RATE_HZ)
        assert heard.dtype == np.float32
        assert heard.shape == (2, round((stop_s - start_s) * RATE_HZ))
        expected = sound(start_s + np.arange(heard.shape[1]) / RATE_HZ)
        np.testing.assert_allclose(heard, np.stack([expected, expected / 2]), atol=1e-5)


def test_a_copy_comes_back_bit_by_bit() -> None:
    mix = Mix(np.random.default_rng(0).standard_normal((2, RATE_HZ)).astype(np.float32))
    region = Region(0.0, 0.75, 0.25)
    heard = aligned(mix, alignment_of(1.0, -1, region), region, 0.0, 0.75, RATE_HZ)
    np.testing.assert_array_equal(heard, -mix.samples[:, RATE_HZ // 4 :])


@pytest.mark.parametrize("rate", [1.0, 1.0003])
def test_stretches_join_without_a_seam(rate: float) -> None:
    noise = np.random.default_rng(1).standard_normal((1, 3 * RATE_HZ))
    mix = Mix(lfilter(*butter(8, 0.8), noise, axis=1).astype(np.float32))  # next to nothing where filters fall off
    region = Region(0.0, 2.5, 0.000_123)
    alignment = alignment_of(rate, 1, region)
    whole = aligned(mix, alignment, region, 0.0, 2.0, RATE_HZ)
    parts = [aligned(mix, alignment, region, start, start + 0.5, RATE_HZ) for start in (0.0, 0.5, 1.0, 1.5)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-4)
    mix.longest = 0
    aligned(mix, alignment, region, 1.0, 1.5, RATE_HZ)
    assert mix.longest < 0.52 * RATE_HZ  # no more of the file is read than is needed


@pytest.mark.parametrize("rate", [1.0, 1.0003])
def test_silence_stands_where_the_mix_has_nothing(rate: float) -> None:
    mix = Mix(np.ones((1, RATE_HZ), np.float32))
    region = Region(0.0, 3.0, -0.5)
    heard = aligned(mix, alignment_of(rate, 1, region), region, 0.0, 3.0, RATE_HZ)[0]
    first, last = round(0.5 * RATE_HZ / rate), round(1.5 * RATE_HZ / rate)
    assert np.abs(heard[: first - 100]).max() < 1e-6
    assert np.abs(heard[last + 100 :]).max() < 1e-6
    np.testing.assert_allclose(heard[first + 100 : last - 100], 1, atol=1e-4)


def test_a_stretch_outside_of_the_region_is_a_mistake() -> None:
    region = Region(1.0, 2.0, 0.0)
    for start_s, stop_s in ((0.5, 1.5), (1.5, 2.5), (1.5, 1.5)):
        with pytest.raises(ValueError, match=r"from 1\.0 to 2\.0 s"):
            aligned(Mix(np.zeros((1, 10))), alignment_of(1.0, 1, region), region, start_s, stop_s, RATE_HZ)
