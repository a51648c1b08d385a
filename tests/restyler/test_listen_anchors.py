"""The low-pass anchors against the limits of ITU-R BS.1534-3, by their response and by what they do to noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import freqz, welch

from audio.waveform import Waveform
from restyler.listen.anchors import ANCHORS

RATES = (44_100, 48_000, 96_000)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("name", "scale"), [("anchor35", 1), ("anchor70", 2)])
def test_the_response_keeps_the_recommendations_limits(name: str, scale: int, rate: int) -> None:
    frequency_hz = np.linspace(0, rate / 2, 200_001)
    _, response = freqz(ANCHORS[name].taps(rate), worN=2 * np.pi * frequency_hz / rate)
    gain_db = 20 * np.log10(np.maximum(np.abs(response), 1e-12))
    assert np.abs(gain_db[frequency_hz <= 3500 * scale]).max() <= 0.1
    assert gain_db[frequency_hz >= 4000 * scale].max() <= -25
    assert gain_db[frequency_hz >= 4500 * scale].max() <= -50
    assert gain_db[frequency_hz >= 4000 * scale].max() > -70  # no steeper than need be: it would ring longer


@pytest.mark.parametrize(("name", "scale"), [("anchor35", 1), ("anchor70", 2)])
def test_noise_comes_out_with_the_bands_asked_for(name: str, scale: int) -> None:
    rate = 48_000
    noise = torch.randn(2, 20 * rate, generator=torch.Generator().manual_seed(1)) * 0.1
    filtered = ANCHORS[name].of(Waveform(noise, rate)).samples.numpy()
    frequency_hz, before = welch(noise.numpy(), rate, nperseg=4096)
    _, after = welch(filtered, rate, nperseg=4096)
    gain_db = 10 * np.log10(after / before)
    inside = (frequency_hz > 50) & (frequency_hz <= 3500 * scale)
    assert np.abs(gain_db[:, inside]).max() <= 0.1 + 0.02  # what the estimate of a spectrum scatters
    assert gain_db[:, frequency_hz >= 4500 * scale].max() <= -50


@pytest.mark.parametrize("name", ANCHORS)
def test_what_lies_in_the_band_comes_through_unmoved(name: str) -> None:
    rate = 48_000
    time_s = torch.arange(rate) / rate
    tone = torch.stack([torch.sin(2 * torch.pi * 440 * time_s), torch.cos(2 * torch.pi * 3000 * time_s)]) * 0.5
    filtered = ANCHORS[name].of(Waveform(tone, rate)).samples
    assert filtered.shape == tone.shape
    middle = slice(1000, -1000)
    assert float((filtered - tone)[:, middle].abs().max()) < 1e-3


def test_a_rate_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="8000 Hz needs a rate above twice that, not 16000 Hz"):
        ANCHORS["anchor70"].taps(16_000)
