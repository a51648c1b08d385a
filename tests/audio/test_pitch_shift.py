"""`shift_pitch`: the length stays, or it is refused."""

from __future__ import annotations

import pytest
import torch

from audio.pitch_shift import shift_pitch
from audio.waveform import Waveform


def sound(samples: int, channels: int, rate_hz: int) -> Waveform:
    return Waveform(torch.linspace(-0.5, 0.5, samples).repeat(channels, 1), rate_hz)


@pytest.mark.parametrize("rate_hz", [8000, 48000])
@pytest.mark.parametrize("semitones", [-12.0, 0.35, 12.0])
def test_the_length_stays(rate_hz: int, semitones: float) -> None:
    for milliseconds, channels in ((10, 1), (37, 2), (251, 1)):
        take = sound(rate_hz * milliseconds // 1000, channels, rate_hz)
        assert shift_pitch(take, semitones).samples.shape == take.samples.shape


@pytest.mark.parametrize("samples", [1, 20])
def test_what_can_not_stay_as_long_is_refused(samples: int) -> None:
    with pytest.raises(ValueError, match=f"{samples} samples are too few"):
        shift_pitch(sound(samples, 1, 48000), 3.0)
