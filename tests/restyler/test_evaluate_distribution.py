"""Distribution and the effect vector: closed forms, a direct double loop, scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.signal import butter, fftconvolve, sosfiltfilt

from audio.errors import InputError
from audio.singing import demo_take
from audio.waveform import Waveform
from restyler.evaluate.distribution import fad, kad, median_distance, standardised
from restyler.evaluate.effects_space import EFFECT_NAMES, effect_vector

RATE = 44_100


@pytest.fixture
def random():
    return np.random.default_rng(0)


def with_moments(random, items, mean, covariance):
    """Vectors whose mean and covariance are exactly these."""
    drawn = random.standard_normal((items, len(mean)))
    drawn -= drawn.mean(0)
    white = drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_kad_is_the_sum_over_all_pairs(random):
    x, y = random.normal(size=(7, 3)), random.normal(0.5, 2.0, size=(5, 3))
    width = np.median([np.linalg.norm(a - b) for a, b in itertools.combinations(x, 2)])

    def mean(pairs):
        return np.mean([math.exp(-sum((a - b) ** 2) / (2 * width**2)) for a, b in pairs])

    within = mean(itertools.permutations(x, 2)) + mean(itertools.permutations(y, 2))
    assert kad(x, y) == pytest.approx(100 * (within - 2 * mean(itertools.product(x, y))))


def test_kad_of_two_gaussians_has_its_closed_form(random):
    """E k of N(0, I) and N(μ, I) is (b²/(b² + 2))^(d/2) exp(−|μ|²/2(b² + 2)); unbiased means right on average."""
    dims, b, shift = 4, 1.5, np.array([1.0, 0.0, 0.5, 0.0])
    scale = b**2 + 2
    expected = 200 * (b**2 / scale) ** (dims / 2) * (1 - math.exp(-(shift @ shift) / (2 * scale)))
    for other, target in ((shift, expected), (0 * shift, 0.0)):
        found = [kad(random.normal(size=(12, dims)), random.normal(size=(9, dims)) + other, b) for _ in range(600)]
        assert np.mean(found) == pytest.approx(target, abs=4 * np.std(found) / math.sqrt(600))
    assert min(found) < 0 < max(found)


def test_kad_of_different_songs_alone(random):
    """Each song has a voice of its own, in both sets: a set then has no distance to itself, where it is below 0 over
    all pairs, and several draws of a song count for no more than one."""
    songs = ["a", "a", "b", "c", "c", "c"]
    voices = {song: random.normal(size=3) for song in "abc"}
    x, y = (np.array([voices[song] + 0.3 * random.normal(size=3) for song in songs]) for _ in range(2))
    assert kad(x, x, 1.0) < -5
    assert kad(x, x, 1.0, songs=(songs, songs)) == pytest.approx(0, abs=1e-9)

    def mean(p, q):
        pairs = [(a, b) for a, one in zip(p, songs, strict=True) for b, two in zip(q, songs, strict=True) if one != two]
        return np.mean([math.exp(-sum((a - b) ** 2) / 2) for a, b in pairs])

    expected = 100 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))
    assert kad(x, y, 1.0, songs=(songs, songs)) == pytest.approx(expected)


def test_fad_of_known_moments(random):
    """Diagonal covariances: |μ₁ − μ₂|² + Σ (σ₁ − σ₂)²."""
    deviations = np.array([[1.0, 2.0, 0.5], [1.5, 1.0, 0.5]])
    x = with_moments(random, 40, np.zeros(3), np.diag(deviations[0] ** 2))
    y = with_moments(random, 25, np.array([1.0, 0.0, -2.0]), np.diag(deviations[1] ** 2))
    assert fad(x, y) == pytest.approx(5 + 0.25 + 1)
    assert fad(x, x) == pytest.approx(0, abs=1e-9)


def test_fad_is_that_of_the_matrix_square_root(random):
    x, y = random.normal(size=(50, 5)) @ random.normal(size=(5, 5)), random.normal(size=(60, 5))
    first, second = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    means = np.sum((x.mean(0) - y.mean(0)) ** 2)
    expected = means + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert fad(x, y) == pytest.approx(expected)
    assert fad(x, y) == pytest.approx(fad(y, x))


def test_fad_of_fewer_items_than_dims(random):
    x = random.normal(size=(6, 20))
    assert fad(x, x) == pytest.approx(0, abs=1e-6)
    assert fad(x, x + 1) == pytest.approx(20, abs=1e-6)


def test_bad_sets_are_refused(random):
    x = random.normal(size=(5, 3))
    for distance in (kad, fad):
        for bad, message in ((x[:1], "two vectors"), (x[:, :2], "one size"), (x * np.nan, "finite")):
            with pytest.raises(ValueError, match=message):
                distance(x, bad)
    with pytest.raises(ValueError, match="bandwidth"):
        kad(np.ones((3, 2)), x[:, :2])


def test_standardised_makes_units_irrelevant(random):
    x, y = random.normal(size=(30, 4)), random.normal(0.5, 1.0, size=(20, 4))
    units, offset = np.array([1.0, 100.0, 0.01, 5.0]), np.array([0.0, 3.0, 1.0, -7.0])
    plain = [np.column_stack([one, np.full(len(one), 3.0)]) for one in standardised(x, y)]
    scaled = standardised(*(np.column_stack([one * units + offset, np.full(len(one), 3.0)]) for one in (x, y)))
    assert scaled[0].shape == (30, 4)
    assert scaled[1] == pytest.approx(plain[1][:, :4])
    assert kad(*scaled) == pytest.approx(kad(plain[0][:, :4], plain[1][:, :4]))
    assert median_distance(np.array([[0.0], [1.0], [5.0]])) == 4.0


# -- the effect vector


@pytest.fixture(scope="module")
def take():
    samples = demo_take(RATE).samples[:, : 6 * RATE].clone()
    samples[:, -5000:] *= torch.linspace(1.25, -0.25, 5000).clamp(0, 1)  # so that it can be delayed
    return Waveform(samples, RATE)


def effects(waveform):
    return dict(zip(EFFECT_NAMES, effect_vector(waveform).tolist(), strict=True))


def difference(take, samples):
    before, after = effects(take), effects(Waveform(torch.as_tensor(np.asarray(samples, np.float32)), RATE))
    return {name: after[name] - before[name] for name in EFFECT_NAMES}


def largest(changes, prefix):
    return max(abs(value) for name, value in changes.items() if name.startswith(prefix))


def test_names_are_one_a_dim_and_gain_is_no_effect(take):
    assert len(set(EFFECT_NAMES)) == len(EFFECT_NAMES) == len(effect_vector(take))
    assert largest(difference(take, 0.1 * take.samples), "") < 1e-3
    assert np.isfinite(effect_vector(take)).all()


def test_a_delay_of_the_whole_is_hardly_an_effect(take):
    assert largest(difference(take, take.samples.roll(777, 1)), "") < 0.4


def test_panning_is_an_imbalance_and_nothing_of_dynamics(take):
    changes = difference(take, np.concatenate([take.samples, 2 * take.samples]))
    assert changes["imbalance"] == pytest.approx(20 * math.log10(2), abs=0.05)
    assert max(largest(changes, prefix) for prefix in ("tone", "spread", "tail", "modulation")) < 0.01


def test_a_high_shelf_moves_tone_where_it_is(take):
    voice = take.samples.numpy()
    high = sosfiltfilt(butter(4, 5000, "high", fs=RATE, output="sos"), voice)
    changes = difference(take, voice + 3 * high)
    body = changes["tone_300_510_hz"]
    assert changes["tone_9500_12000_hz"] - body == pytest.approx(20 * math.log10(4), abs=0.5)
    assert abs(changes["tone_770_1270_hz"] - body) < 0.1 and largest(changes, "imbalance") < 1e-6


def test_reverb_fills_gaps_and_widens(take):
    random = np.random.default_rng(3)
    time = np.arange(RATE) / RATE
    tails = random.standard_normal((2, RATE)) * 10 ** (-3 * time)
    tails *= 0.4 / np.linalg.norm(tails, axis=1, keepdims=True)
    voice = take.samples.numpy().repeat(2, 0)
    changes = difference(take, voice + fftconvolve(voice, tails, axes=1)[:, : voice.shape[1]])
    assert all(value > 0.7 for name, value in changes.items() if name.startswith("tail") and name.endswith("_ms"))
    assert all(value > 3 for name, value in changes.items() if name.startswith("width"))


def test_compression_evens_levels_out(take):
    power = take.samples.square()
    level = torch.nn.functional.avg_pool1d(power[None], 2001, 1, 1000, count_include_pad=False)[0].clamp_min(1e-7)
    changes = difference(take, take.samples * level**-0.25)
    assert all(value < -0.05 for name, value in changes.items() if name.startswith("spread"))


@pytest.mark.parametrize(("rate_hz", "depth"), [(3.0, 0.5), (6.0, 0.2), (12.0, 0.3)])
def test_a_tremolo_has_a_known_modulation(rate_hz, depth):
    """Amplitude 1 + m·cos has the variance m²/2 against its mean squared, all in one octave."""
    time = torch.arange(8 * RATE) / RATE
    sound = torch.sin(2 * torch.pi * 1000 * time) * (1 + depth * torch.cos(2 * torch.pi * rate_hz * time))
    found = effects(Waveform(0.1 * sound[None], RATE))
    octaves = [name for name in EFFECT_NAMES if name.startswith("modulation")]
    strongest = max(octaves, key=found.__getitem__)
    low, high = (float(part) for part in strongest.split("_")[1:3])
    assert low <= rate_hz < high
    assert found[strongest] == pytest.approx(10 * math.log10(depth**2 / 2), abs=1.2)  # less by the spectrum's window


def test_too_short_a_sound_is_refused():
    with pytest.raises(InputError, match="at least 2 s, not 1"):
        effect_vector(Waveform(torch.ones(2, RATE), RATE))
