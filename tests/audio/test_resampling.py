"""Between any two rates: a tone keeps its pitch, phase and length, in bounded memory."""

from __future__ import annotations

import math
import resource
from pathlib import Path

import pytest
import torch

from audio import Waveform
from audio.resampling import resample, resample_by_polynomials

FREQUENCY_HZ = 1000.0


def tone(rate_hz: int, samples: int) -> torch.Tensor:
    return torch.sin(2 * math.pi * FREQUENCY_HZ * torch.arange(samples, dtype=torch.float64) / rate_hz).float()[None]


@pytest.mark.parametrize(
    ("old_hz", "new_hz"),
    [(44_099, 48_000), (47_999, 48_000), (48_000, 44_101), (8_001, 48_000), (383_999, 48_000), (44_100, 48_000)],
)
def test_a_tone_keeps_its_pitch_phase_and_length(old_hz: int, new_hz: int) -> None:
    """Memory may grow by 1 GB; a table of all phases between 44 099 and 48 000 Hz has 17 GB."""
    samples = old_hz + 123
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 10**9, limits[1]))
    try:
        heard = Waveform(tone(old_hz, samples), old_hz).resampled(new_hz)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert heard.sample_rate == new_hz
    assert heard.samples.shape == (1, math.ceil(samples * new_hz / old_hz))
    assert heard.samples.dtype == torch.float32
    inner = slice(new_hz // 10, -(new_hz // 10))
    expected = tone(new_hz, heard.samples.shape[1])
    torch.testing.assert_close(heard.samples[:, inner], expected[:, inner], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("old_hz", "new_hz"), [(44_100, 48_000), (48_000, 44_100), (96_000, 22_050), (8_000, 48_000)])
def test_both_ways_are_one_filter(old_hz: int, new_hz: int) -> None:
    noise = 0.1 * torch.randn(2, 20_011, generator=torch.Generator().manual_seed(0))
    table, polynomials = resample(noise, old_hz, new_hz), resample_by_polynomials(noise, old_hz, new_hz)
    torch.testing.assert_close(polynomials, table, atol=1e-5, rtol=0)


def test_what_the_new_rate_cannot_hold_is_gone() -> None:
    """Noise above the new Nyquist frequency would come back mirrored."""
    spectrum = torch.fft.rfft(torch.randn(96_001, generator=torch.Generator().manual_seed(0)))
    spectrum[:24_500] = 0
    high = torch.fft.irfft(spectrum, 96_001)
    heard = resample(high[None], 96_001, 48_000)[:, 500:-500]
    assert heard.square().mean() < 1e-10 * high.square().mean()
