"""Each feature: an analytic answer, what it must not see, and that it moves with the effect it stands for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pedalboard
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve

from audio import Waveform
from audio.features import FEATURES, brightness_db, dynamics_db, measure, space_db, width_db
from audio.io import read

RATE_HZ = 48_000


def tone(frequency_hz: float, seconds: float = 1.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    return np.sin(2 * np.pi * frequency_hz / rate_hz * np.arange(round(seconds * rate_hz)))


def wave(*channels: np.ndarray, rate_hz: int = RATE_HZ) -> Waveform:
    return Waveform(torch.tensor(np.stack(channels), dtype=torch.float32), rate_hz)


@cache
def voice(seed: int = 0, noise_floor: float = 1e-4) -> np.ndarray:
    """Six syllables of harmonics and breath with different levels, and gaps between them; 4 s."""
    random = np.random.default_rng(seed)
    samples = 4 * RATE_HZ
    out = random.standard_normal(samples) * noise_floor
    for start_s in np.arange(6) * 0.6 + 0.1:
        length = round(random.uniform(0.2, 0.4) * RATE_HZ)
        at = round(start_s * RATE_HZ)
        pitch_hz = random.uniform(150, 400)
        harmonics = sum(tone(pitch_hz * k, length / RATE_HZ) / k**1.5 for k in range(1, 20))
        swell = np.sin(np.pi * np.arange(length) / length) ** 0.3 * 10 ** (random.uniform(-18, 0) / 20)
        out[at : at + length] += swell * (harmonics + 0.05 * random.standard_normal(length)) * 0.1
    return out


@cache
def tail(seed: int, t60_s: float) -> np.ndarray:
    """What a reverb of exponentially decaying noise with energy 1 makes of a voice, [2 samples]; cut at its end."""
    seconds = np.arange(round(1.2 * t60_s * RATE_HZ)) / RATE_HZ
    response = np.random.default_rng(1).standard_normal((2, len(seconds))) * 10 ** (-3 * seconds / t60_s)
    response /= np.linalg.norm(response, axis=1, keepdims=True)
    dry = voice(seed)
    return fftconvolve(dry[None], response, axes=1)[:, : len(dry)]


def in_a_room(seed: int, wet_db: float, t60_s: float) -> Waveform:
    return wave(*(voice(seed) + 10 ** (wet_db / 20) * tail(seed, t60_s)))


def processed(dry: np.ndarray, effect: pedalboard.Plugin) -> Waveform:
    return wave(*effect.process(np.stack([dry, dry]).astype(np.float32), RATE_HZ))


def assert_rising(values: list[float], least_step: float) -> None:
    assert np.diff(values).min() > least_step, values


def test_brightness_is_the_ratio_of_two_tones() -> None:
    for low_hz, high_hz in [(1_000, 8_000), (250, 4_200), (1_900, 15_500)]:
        for rate_hz in (32_000, 44_100, 48_000, 96_000):
            both = wave(tone(low_hz, rate_hz=rate_hz) + 0.1 * tone(high_hz, rate_hz=rate_hz), rate_hz=rate_hz)
            assert brightness_db(both) == pytest.approx(-20, abs=0.1)


def test_brightness_ignores_rumble_and_what_few_can_hear() -> None:
    heard = tone(1_000) + 0.1 * tone(8_000)
    assert brightness_db(wave(heard + tone(60) + tone(3_000) + 0.5 * tone(19_000))) == pytest.approx(-20, abs=0.1)


def test_brightness_adds_the_energy_of_both_channels() -> None:
    assert brightness_db(wave(tone(1_000), 0.1 * tone(8_000))) == pytest.approx(-20, abs=0.1)
    both = tone(1_000) + 0.1 * tone(8_000)
    assert brightness_db(wave(both, -both)) == pytest.approx(-20, abs=0.1)


def test_brightness_rises_with_a_high_shelf() -> None:
    shelves = [pedalboard.HighShelfFilter(cutoff_frequency_hz=4_000, gain_db=gain) for gain in (-12, -6, 0, 6, 12)]
    values = [brightness_db(processed(voice(), shelf)) for shelf in shelves]
    assert_rising(values, 3.5)


@settings(max_examples=20, deadline=None)
@given(side_db=st.floats(-50, 50))
def test_width_is_side_to_middle(side_db: float) -> None:
    middle, side = tone(500), tone(730) * 10 ** (side_db / 20)
    assert width_db(wave(middle + side, middle - side)) == pytest.approx(side_db, abs=0.5)
    assert width_db(wave(middle - side, middle + side)) == pytest.approx(side_db, abs=0.5)


def test_width_of_special_cases() -> None:
    take = voice()
    assert width_db(wave(take)) == pytest.approx(-60, abs=0.01)
    assert width_db(wave(take, take)) == pytest.approx(-60, abs=0.01)
    assert width_db(wave(take, -take)) == pytest.approx(60, abs=0.01)
    assert width_db(wave(take, 0 * take)) == pytest.approx(0, abs=0.01)
    assert width_db(wave(tone(500), tone(730))) == pytest.approx(0, abs=0.01)


def test_dynamics_is_the_weighted_standard_deviation_of_level() -> None:
    """One second at each of two levels 6.02 dB apart: weights 4/5 and 1/5, so the deviation is 0.4 · 6.02 dB."""
    assert dynamics_db(wave(np.concatenate([tone(1_000), 0.5 * tone(1_000)]))) == pytest.approx(2.408, abs=0.03)
    assert dynamics_db(wave(tone(1_000))) == pytest.approx(0, abs=1e-3)


def test_dynamics_falls_with_compression() -> None:
    ratios = (1, 1.5, 2, 4, 8)
    for seed in range(4):
        compressors = [pedalboard.Compressor(-40, ratio, attack_ms=3, release_ms=80) for ratio in ratios]
        assert_rising([-dynamics_db(processed(voice(seed), each)) for each in compressors], 0.1)


def test_dynamics_sees_compression_and_hardly_reverb() -> None:
    for seed in range(4):
        dry = dynamics_db(wave(voice(seed)))
        wet = dynamics_db(in_a_room(seed, -12, 1.5))
        flat = dynamics_db(processed(voice(seed), pedalboard.Compressor(-40, 4, attack_ms=3, release_ms=80)))
        assert abs(wet - dry) < 0.4 * (dry - flat)


def test_space_is_the_weighted_depth_of_gaps() -> None:
    loud, soft = tone(1_000), 0.1 * tone(1_000)
    # A fall of 20 dB that lasts 0.25 s of 1.25 s.
    assert space_db(wave(np.concatenate([loud, soft[: RATE_HZ // 4]]))) == pytest.approx(-20 * 0.25 / 1.25, abs=0.2)
    # After 0.5 s the soft tone is the sound, with a tenth of the weight.
    assert space_db(wave(np.concatenate([loud, soft, soft]))) == pytest.approx(-20 * 0.5 / (1.5 + 0.15), abs=0.2)
    # Digital silence counts as −60 dB, and only near the sound.
    for silence_s in (0.5, 5.0):
        silence = np.zeros(round(silence_s * RATE_HZ))
        assert space_db(wave(np.concatenate([silence, loud, silence]))) == pytest.approx(-60 * 0.5 / 1.5, abs=0.6)
    # A rise is no decay, and a steady tone has none.
    assert space_db(wave(np.concatenate([soft, loud]))) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("t60_s", [0.5, 1.5, 4.0])
def test_space_rises_with_the_level_of_a_reverb(t60_s: float) -> None:
    for seed in range(3):
        levels_db = (-200, -40, -30, -24, -18, -12, -6, 0)
        assert_rising([space_db(in_a_room(seed, level, t60_s)) for level in levels_db], 0.0)


def test_space_rises_with_the_length_of_a_reverb_and_with_echoes() -> None:
    assert_rising([space_db(in_a_room(0, -12, t60_s)) for t60_s in (0.3, 0.6, 1.2, 2.4, 4.8)], 0.2)
    delays = [pedalboard.Delay(delay_seconds=0.25, feedback=0.4, mix=mix) for mix in (0, 0.1, 0.2, 0.4)]
    assert_rising([space_db(processed(voice(), delay)) for delay in delays], 0.2)


def test_features_keep_to_their_own_effect() -> None:
    """A high shelf hardly moves width, dynamics and space (where no noise floor fills the gaps); panning only width."""
    take = voice(noise_floor=0.0)
    plain = measure(wave(take))
    shelf = measure(processed(take, pedalboard.HighShelfFilter(cutoff_frequency_hz=4_000, gain_db=6)))
    panned = measure(wave(take, 0.5 * take))
    for name in ("width_db", "dynamics_db", "space_db"):
        assert shelf[name] == pytest.approx(plain[name], abs=0.3)
    assert panned.pop("width_db") > plain.pop("width_db") + 40
    assert panned == pytest.approx(plain, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(gain_db=st.floats(-80, 30))
def test_no_feature_changes_with_gain(gain_db: float) -> None:
    take = in_a_room(0, -12, 1.0)
    louder = Waveform(take.samples * 10 ** (gain_db / 20), RATE_HZ)
    assert measure(louder) == pytest.approx(measure(take), abs=0.01)


def test_measure_names_all_features_in_order() -> None:
    take = in_a_room(0, -12, 1.0)
    functions = (brightness_db, width_db, dynamics_db, space_db)
    assert tuple(measure(take)) == FEATURES
    assert list(measure(take).values()) == [function(take) for function in functions]


def test_what_has_no_features_is_refused() -> None:
    for feature in (brightness_db, width_db, dynamics_db, space_db):
        with pytest.raises(ValueError, match="silence"):
            feature(wave(np.zeros(RATE_HZ)))
    with pytest.raises(ValueError, match=r"at least 0\.05 s"):
        dynamics_db(wave(tone(1_000, 0.04)))
    with pytest.raises(ValueError, match="32000 Hz"):
        brightness_db(wave(tone(1_000, rate_hz=22_050), rate_hz=22_050))


@pytest.mark.parametrize("samples", [RATE_HZ + 1, RATE_HZ + 1_000, 2_401])
@pytest.mark.parametrize("at", [0, -1])
def test_a_single_sample_at_either_end_has_features(samples: int, at: int) -> None:
    """Windows that fade at their ends, or that leave the last incomplete one out, would hear silence."""
    click = np.zeros(samples)
    click[at] = 1.0
    found = measure(wave(click))
    assert found["brightness_db"] == pytest.approx(10 * np.log10(12_000 / 1_800), abs=0.1)  # flat: bandwidths alone
    assert all(np.isfinite(value) for value in found.values())


def test_real_mixes_have_more_space_and_less_dynamics_than_their_takes(shared_data: Path) -> None:
    """Engineers compress a voice, widen it and put it in a room; the features see it on real pairs."""
    takes = sorted((shared_data / "research/pairs").glob("*__dry.mp3"))
    assert len(takes) > 10
    changes: dict[str, list[float]] = {name: [] for name in FEATURES}
    for path in takes:
        before, after = measure(read(path)), measure(read(path.with_name(path.name.replace("__dry", "__wet"))))
        for name in FEATURES:
            changes[name].append(after[name] - before[name])

    def share(name: str, test: Callable[[float], bool]) -> float:
        return float(np.mean([test(change) for change in changes[name]]))

    assert share("space_db", lambda change: change > 0.2) > 0.9
    assert share("width_db", lambda change: change > 10) > 0.9
    assert share("dynamics_db", lambda change: change < -0.2) > 0.6
    assert share("brightness_db", lambda change: change > 0.5) > 0.6
