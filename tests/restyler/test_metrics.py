import math

import auraloss.freq
import numpy as np
import pytest
import torch

from audio.errors import InputError
from audio.loudness import integrated_loudness_lufs
from audio.singing import demo_take
from audio.waveform import Waveform
from restyler.metrics import at_loudness, loudness_dynamics_distance, spectral_distance

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


def test_distances_are_those_of_auraloss_as_it_comes(take):
    """With its own A-weighting at every FFT size: what other papers quote. Left and right are very unlike, and so are
    their distances: a mean over channels is another number."""
    take = Waveform(take.samples[:, RATE : 2 * RATE] * torch.tensor([[1.0], [0.1]]), RATE)
    other = echoed(take, 0.3)
    other.samples[1] = 0.02 * torch.randn(RATE, generator=torch.Generator().manual_seed(2))
    sizes = [128, 512, 2048]
    settings = {"fft_sizes": sizes, "hop_sizes": [size // 4 for size in sizes], "win_lengths": sizes}
    settings |= {"perceptual_weighting": True, "sample_rate": RATE}
    with torch.random.fork_rng():
        lr, ms = auraloss.freq.MultiResolutionSTFTLoss(**settings), auraloss.freq.SumAndDifferenceSTFTLoss(**settings)
    x, y = at_loudness(other)[None], at_loudness(take)[None]
    found = spectral_distance(take, other)
    assert (found.lr, found.ms) == pytest.approx((float(lr(x, y)), float(ms(x, y))), rel=1e-4)


@pytest.mark.parametrize("distance", [spectral_distance, loudness_dynamics_distance])
def test_silence_and_other_shapes_are_refused(take, distance):
    with pytest.raises(InputError, match="silent"):
        distance(take, Waveform(torch.zeros_like(take.samples), RATE))
    with pytest.raises(ValueError, match="one shape"):
        distance(take, Waveform(take.samples[:, 1:], RATE))
    with pytest.raises(ValueError, match="rate"):
        distance(take, Waveform(take.samples, 48_000))


def test_measuring_draws_nothing_from_the_global_generator(take):
    state = torch.get_rng_state()
    spectral_distance(Waveform(take.samples, 44_101), Waveform(take.samples, 44_101))  # a rate for the first time
    assert torch.equal(torch.get_rng_state(), state)


# -- dynamics


def signs(seconds, rate=RATE):
    """Noise whose power is 1 at every sample: its level doesn't move at all."""
    random = torch.randint(0, 2, (2, round(seconds * rate)), generator=torch.Generator().manual_seed(1))
    return (2 * random - 1).float()


def test_gains_are_no_change_of_dynamics(take):
    assert loudness_dynamics_distance(take, take) == 0
    assert loudness_dynamics_distance(take, Waveform(0.1 * take.samples, RATE)) < 1e-4
    # A gain for each channel moves the loudness, but neither level against its own average.
    noise = Waveform(0.1 * signs(2), RATE)
    assert loudness_dynamics_distance(noise, Waveform(noise.samples * torch.tensor([[1.5], [0.3]]), RATE)) < 1e-4


@pytest.mark.parametrize("modulation_hz", [0.5, 2.0, 8.0])
def test_a_tremolo_has_a_known_distance(modulation_hz):
    """A small modulation of the power comes through an average with the gain and phase of a first-order filter; the
    mean absolute value of what is left is 2/π of its amplitude, in each of the two scales."""
    depth, rate, seconds = 0.2, 8_000, 60
    steady = 0.1 * signs(seconds, rate)
    time = torch.arange(seconds * rate) / rate
    moved = steady * (1 + depth * torch.cos(2 * torch.pi * modulation_hz * time)).sqrt()

    def through(time_ms):
        return 1 / (1 + 2j * math.pi * modulation_hz * time_ms / 2200)

    expected = 0.0
    for short_ms, long_ms in ((50, 1000), (100, 2000)):
        ahead = np.exp(2j * math.pi * modulation_hz * (long_ms - short_ms) / 2000)
        expected += 2 / math.pi * depth * abs(through(short_ms) - ahead * through(long_ms))
    found = loudness_dynamics_distance(Waveform(steady, rate), Waveform(moved, rate))
    assert found == pytest.approx(expected, rel=0.05)


def test_dynamics_are_those_of_the_formula_sample_by_sample():
    """Against the recursion written out, in pure numpy."""
    rate = 8_000
    random = np.random.default_rng(0)
    reference, estimate = 0.05 * random.normal(size=(2, 2, 2 * rate)) * random.choice([0.0, 0.1, 1.0], (2, 1, 2 * rate))
    estimate[1, :rate] = 0  # digital silence: power is kept from zero
    pair = [Waveform(torch.from_numpy(one).float(), rate) for one in (reference, estimate)]
    powers = [(one.samples.numpy() * 10 ** ((-18 - integrated_loudness_lufs(one)) / 20)) ** 2 for one in pair]

    def averages(power, coefficient):
        state, found = np.zeros(2), []
        for column in np.maximum(power, 1e-8).T:
            state = (1 - coefficient) * state + coefficient * column
            found.append(state)
        return np.array(found).T

    expected = 0.0
    for short_ms, long_ms in ((50, 1000), (100, 2000)):
        shift = int(rate * (long_ms - short_ms) * 0.0005)
        ranges = []
        for power in powers:
            short, long = (averages(power, 1 - np.exp(-2200 / ms / rate)) for ms in (short_ms, long_ms))
            ranges.append(np.log(short) - np.log(np.concatenate([long[:, shift:], long[:, :shift]], axis=1)))
        expected += np.abs(ranges[0] - ranges[1]).mean()
    assert loudness_dynamics_distance(*pair) == pytest.approx(expected, rel=1e-4)
    assert expected > 0.5


def test_compression_is_a_distance_that_grows_with_its_ratio(take):
    level = take.samples.square().mean(0, keepdim=True)
    level = torch.nn.functional.avg_pool1d(level[None], 2001, 1, 1000, count_include_pad=False)[0].clamp_min(1e-6)
    found = [
        loudness_dynamics_distance(take, Waveform(take.samples * level ** ((1 / ratio - 1) / 2), RATE))
        for ratio in (1.25, 2.0, 8.0)
    ]
    assert found == sorted(found) and found[0] > 0.05 and found[2] > 2 * found[0]
