"""`shift_pitch`: the length stays, or it is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audio.pitch_shift import shift_pitch
from audio.waveform import Waveform


@given(
    samples=st.integers(1, 500) | st.integers(500, 20_000),
    channels=st.integers(1, 2),
    rate_hz=st.sampled_from([8000, 44100, 48000, 384000]),
    semitones=st.floats(-12, 12),
)
def test_the_length_stays_or_is_refused(samples: int, channels: int, rate_hz: int, semitones: float) -> None:
    sound = Waveform(torch.linspace(-0.5, 0.5, samples).expand(channels, -1).clone(), rate_hz)
    try:
        shifted = shift_pitch(sound, semitones)
    except ValueError as error:
        assert "too few to shift" in str(error) and samples < 0.01 * rate_hz
        return
    assert shifted.samples.shape == sound.samples.shape


def test_a_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="20 samples are too few"):
        shift_pitch(Waveform(torch.zeros(1, 20), 48000), 3.0)
