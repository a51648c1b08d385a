import math

import pytest
import torch

from audio.errors import InputError
from audio.singing import demo_take
from audio.waveform import Waveform
from restyler.metrics import spectral_distance

RATE = 44_100


@pytest.fixture(scope="module")
def take():
    return Waveform(demo_take(RATE).samples[:, : 3 * RATE].repeat(2, 1), RATE)


def echoed(take, gain, delay=400):
    """The take with an echo that sits on the right: something that differs in left, right, sum and difference."""
    return Waveform(take.samples + gain * torch.tensor([[0.2], [1.0]]) * take.samples.roll(delay, 1), RATE)


def test_nothing_is_nearer_than_the_mix_itself(take):
    distance = spectral_distance(take, take)
    assert distance.lr == 0 and distance.ms == 0


def test_loudness_is_no_distance(take):
    other = spectral_distance(echoed(take, 0.5), Waveform(0.1 * take.samples, RATE))
    same = spectral_distance(echoed(take, 0.5), take)
    assert other.lr == pytest.approx(same.lr, rel=0.01)


def test_grows_with_the_difference(take):
    distances = [spectral_distance(take, echoed(take, gain)).lr for gain in (0.05, 0.15, 0.45)]
    assert distances == sorted(distances) and distances[0] < distances[2] / 2


def test_a_panned_noise_has_a_known_distance():
    """One gain per channel that leaves the loudness alone: |ln gain| in every bin and |1 − gain| of every norm."""
    noise = Waveform(0.1 * torch.randn(2, RATE, generator=torch.Generator().manual_seed(0)), RATE)
    gains = torch.tensor([1.2, math.sqrt(2 - 1.2**2)])
    distance = spectral_distance(noise, Waveform(noise.samples * gains[:, None], RATE))
    expected = gains.log().abs().mean() + ((gains - 1).square().sum() / 2).sqrt()
    assert distance.lr == pytest.approx(float(expected), rel=0.02)


def test_silence_and_other_shapes_are_refused(take):
    with pytest.raises(InputError, match="silent"):
        spectral_distance(take, Waveform(torch.zeros_like(take.samples), RATE))
    with pytest.raises(ValueError, match="one shape"):
        spectral_distance(take, Waveform(take.samples[:, 1:], RATE))
    with pytest.raises(ValueError, match="rate"):
        spectral_distance(take, Waveform(take.samples, 48_000))
