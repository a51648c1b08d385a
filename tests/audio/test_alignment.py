"""Offsets, clocks, polarities, cuts and strangers, all of which are known here."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import fftconvolve, lfilter, resample_poly

from audio.alignment import Alignment, Region, align
from audio.resampling import resample_by_polynomials
from audio.singing import VOICES, Note, Rest, random_phrase, sing

RATE_HZ = 16_000


def voice(seed: int, seconds: float = 24.0) -> np.ndarray:
    """A take of phrases and rests, [samples] float32."""
    random = np.random.default_rng(seed)
    singer = list(VOICES.values())[seed % len(VOICES)]
    score: list[Note | Rest] = []
    while sum(one.duration_s for one in score) < seconds:
        score += random_phrase(random, singer)
    sung = sing(score, singer, sample_rate=RATE_HZ, generator=random)
    return sung.samples[0, : round(seconds * RATE_HZ)].numpy()


def mixed(take: np.ndarray, seed: int = 0) -> np.ndarray:
    """Brightened, driven, with a reverb after 15 ms and some noise; the direct sound stays in place."""
    random = np.random.default_rng(seed)
    bright = lfilter([1.0, -0.5], [1.0], take)
    driven = np.tanh(4 * bright / np.abs(bright).max())
    decay = random.standard_normal(RATE_HZ) * 10 ** (-3 * np.arange(RATE_HZ) / RATE_HZ)
    wet = fftconvolve(driven, np.pad(decay / np.linalg.norm(decay), (240, 0)))[: len(take)]
    noise = 0.02 * random.standard_normal(len(take)) * driven.std()
    return (0.5 * driven + 0.15 * wet + noise).astype(np.float32)


def played_at(signal: np.ndarray, rate: float) -> np.ndarray:
    """As it sounds over a clock that is `rate` times slower: longer for a rate above 1."""
    steps = 10**6
    slower = resample_by_polynomials(torch.from_numpy(signal)[None], steps, round(steps * rate))
    return slower[0].numpy()


def found(raw: np.ndarray, mix: np.ndarray) -> Alignment:
    alignment = align(raw, mix, RATE_HZ)
    assert alignment is not None
    return alignment


def only(alignment: Alignment) -> Region:
    (region,) = alignment.regions
    return region


@pytest.fixture(scope="module")
def take() -> np.ndarray:
    return voice(1, 14.0)


@pytest.fixture(scope="module")
def mix(take: np.ndarray) -> np.ndarray:
    return mixed(take)


@pytest.mark.parametrize("delay_samples", [0, 1, -37, -20_000, 480_000])
@pytest.mark.parametrize("polarity", [1, -1])
def test_a_copy_is_found_wherever_it_lies(take: np.ndarray, delay_samples: int, polarity: int) -> None:
    """To 10 µs, at any level, and the region is what both have."""
    copy = (
        polarity * 0.01 * np.concatenate([np.zeros(max(0, delay_samples), np.float32), take[max(0, -delay_samples) :]])
    )
    alignment = found(take, copy)
    region = only(alignment)
    assert region.offset_s == pytest.approx(delay_samples / RATE_HZ, abs=1e-5)
    assert alignment.rate == 1
    assert alignment.polarity == polarity
    assert min(alignment.score, alignment.phase_agreement) > 0.95
    assert region.start_s == pytest.approx(max(0, -delay_samples) / RATE_HZ, abs=0.01)
    assert region.stop_s == pytest.approx(len(take) / RATE_HZ, abs=0.01)


def test_a_delay_between_samples_is_found_to_a_hundredth_of_one(take: np.ndarray) -> None:
    spectrum = np.fft.rfft(take)
    late = np.fft.irfft(spectrum * np.exp(-2j * np.pi * np.fft.rfftfreq(len(take)) * 10.37), len(take)).astype(
        np.float32
    )
    assert only(found(take, late)).offset_s * RATE_HZ == pytest.approx(10.37, abs=0.01)


@pytest.mark.parametrize("samples", [5, 70_001])
def test_a_later_mix_has_a_later_offset_and_nothing_else(take: np.ndarray, mix: np.ndarray, samples: int) -> None:
    before, after = found(take, mix), found(take, np.pad(mix, (samples, 0)))
    assert only(after).offset_s - only(before).offset_s == pytest.approx(samples / RATE_HZ, abs=2e-6)
    assert after.score == pytest.approx(before.score, abs=0.01)
    assert (after.rate, after.polarity) == (before.rate, before.polarity)


@pytest.mark.parametrize(("raw_gain", "mix_gain"), [(1e-4, 1.0), (1.0, 1e-4), (30.0, -0.003)])
def test_levels_do_not_matter(take: np.ndarray, mix: np.ndarray, raw_gain: float, mix_gain: float) -> None:
    plain, other = found(take, mix), found(np.float32(raw_gain) * take, np.float32(mix_gain) * mix)
    assert only(other).offset_s == pytest.approx(only(plain).offset_s, abs=1e-6)
    assert other.polarity == plain.polarity * np.sign(mix_gain)
    assert other.score == pytest.approx(plain.score, abs=1e-3)


@pytest.mark.parametrize("drift", [1e-5, -1e-4, 1e-3])
def test_a_drift_is_measured_to_a_millionth(drift: float) -> None:
    take = voice(2, 40.0)
    alignment = found(take, played_at(np.pad(mixed(take), (8000, 0)), 1 + drift))
    assert alignment.rate == pytest.approx(1 + drift, abs=2e-6)
    assert only(alignment).offset_s == pytest.approx(0.5 * (1 + drift), abs=1e-4)
    assert alignment.coverage > 0.99


@pytest.mark.parametrize(("up", "down"), [(160, 147), (147, 160)])
def test_a_wrong_label_is_a_rate_and_not_a_stranger(take: np.ndarray, mix: np.ndarray, up: int, down: int) -> None:
    alignment = found(take, resample_poly(np.pad(mix, (16_000, 0)), up, down).astype(np.float32))
    assert alignment.rate == pytest.approx(up / down, abs=2e-6)
    assert only(alignment).offset_s == pytest.approx(up / down, abs=1e-4)


def rest_near(take: np.ndarray, at_s: float) -> int:
    """The sample in the middle of the quietest 0.1 s within 3 s of at_s."""
    first, stop = round((at_s - 3) * RATE_HZ), round((at_s + 3) * RATE_HZ)
    level = np.convolve(np.square(take[first:stop], dtype=np.float64), np.ones(RATE_HZ // 10), "same")
    return first + int(level.argmin())


def heard(alignment: Alignment, take: np.ndarray, at_s: np.ndarray) -> np.ndarray:
    """The offset in s at those raw times that sound, NaN where no region holds them; sounding times only."""
    level = np.abs(take[np.round(at_s * RATE_HZ).astype(int)])
    offsets = np.full(len(at_s), np.nan)
    for region in alignment.regions:
        offsets[(at_s >= region.start_s) & (at_s < region.stop_s)] = region.offset_s
    return np.where(level > 0.05 * np.abs(take).max(), offsets, np.inf)


@pytest.mark.parametrize("pause_s", [0.01, 0.1, 40.0])
def test_an_inserted_pause_makes_two_regions(pause_s: float) -> None:
    take = voice(3, 36.0)
    cut, mix = rest_near(take, 18.0), mixed(take)
    longer = np.concatenate([mix[:cut], np.zeros(round(pause_s * RATE_HZ), np.float32), mix[cut:]])
    alignment = found(take, longer)
    first, second = alignment.regions
    assert first.offset_s == pytest.approx(0, abs=2e-4)
    assert second.offset_s == pytest.approx(pause_s, abs=2e-4)
    assert first.stop_s == pytest.approx(second.start_s, abs=1e-6)
    assert alignment.rate == 1
    if pause_s > 0.05:  # a smaller jump is seen, but not to the half second where it is
        at_s = np.arange(0, 36, 0.01)
        offsets = heard(alignment, take, at_s)
        right = np.abs(offsets - np.where(at_s * RATE_HZ < cut, 0, pause_s)) < 1e-3
        assert right[np.isfinite(offsets)].mean() > 0.99


def test_what_the_mix_left_out_is_in_no_region() -> None:
    take = voice(4, 36.0)
    mix = mixed(take)
    alignment = found(take, np.concatenate([mix[: 14 * RATE_HZ], mix[19 * RATE_HZ :]]))
    first, second = alignment.regions
    assert (first.offset_s, second.offset_s) == (pytest.approx(0, abs=2e-4), pytest.approx(-5, abs=2e-4))
    assert first.stop_s == pytest.approx(14, abs=1)
    assert second.start_s - first.stop_s >= 5 - 1e-6  # or one sound of the mix would have two places in the take
    assert second.start_s == pytest.approx(19, abs=1)


@pytest.mark.parametrize("other", ["another take", "silence"])
def test_a_part_that_was_replaced_is_not_covered(other: str) -> None:
    take = voice(5, 36.0)
    mix = mixed(take)
    part = slice(12 * RATE_HZ, 22 * RATE_HZ)
    mix[part] = mixed(voice(9, 36.0))[part] if other == "another take" else 0
    at_s = np.arange(0, 36, 0.01)
    covered = ~np.isnan(heard(found(take, mix), take, at_s))
    sounding = np.abs(take[np.round(at_s * RATE_HZ).astype(int)]) > 0.05 * np.abs(take).max()
    inside, outside = sounding & (at_s > 13) & (at_s < 21), sounding & ((at_s < 11) | (at_s > 23))
    assert not covered[inside].any()
    assert covered[outside].all()


def test_a_piece_of_the_song_is_placed_where_it_is_from() -> None:
    """Not at another chorus, though each is sung from the same samples; and one that came first can't be told apart."""
    chorus, verses = voice(6, 9.0), [voice(seed, 9.0) for seed in (7, 8, 10)]
    song = np.concatenate([verses[0], chorus, verses[1], chorus, verses[2], chorus])
    region = only(found(song, mixed(song)[27 * RATE_HZ :]))
    assert region.offset_s == pytest.approx(-27, abs=2e-4)
    assert region.start_s == pytest.approx(27, abs=0.5)


@pytest.mark.parametrize("seed", range(4))
def test_a_stranger_is_refused(seed: int, mix: np.ndarray) -> None:
    assert align(voice(20 + seed, 15.0), mix, RATE_HZ) is None


def test_another_take_of_the_same_notes_never_looks_sure() -> None:
    """The same score in the same time by the same voice, as no singer could: only breath, jitter and drift differ."""
    for seed in range(4):
        singer = list(VOICES.values())[seed % 4]
        score = [one for part in range(3) for one in random_phrase(np.random.default_rng([seed, part]), singer)]
        first, second = (
            sing(score, singer, sample_rate=RATE_HZ, generator=np.random.default_rng([seed, 100 + take]))
            .samples[0]
            .numpy()
            for take in (0, 1)
        )
        alignment = align(first, second, RATE_HZ)
        assert alignment is None or alignment.score < 0.25


@pytest.mark.parametrize("silent", ["raw", "mix"])
@pytest.mark.parametrize("samples", [0, 1, 500, 160_000])
def test_silence_and_scraps_are_aligned_with_nothing(mix: np.ndarray, silent: str, samples: int) -> None:
    scrap = np.zeros(samples, np.float32)
    raw, other = (scrap, mix) if silent == "raw" else (mix, scrap)
    assert align(raw, other, RATE_HZ) is None


def test_silence_around_a_take_is_no_matter(take: np.ndarray, mix: np.ndarray) -> None:
    region = only(found(np.pad(take, (20 * RATE_HZ, 30 * RATE_HZ)), np.pad(mix, (5 * RATE_HZ, 0))))
    assert region.offset_s == pytest.approx(-15, abs=2e-4)


def test_an_all_pass_is_seen_in_the_phase_alone(take: np.ndarray) -> None:
    """A filter that turns the phase by random amounts keeps the coherence: the pair is right, its phase is not."""
    random = np.random.default_rng(3)
    turns = np.exp(2j * np.pi * np.cumsum(random.standard_normal(129)) / 4)
    turned = fftconvolve(take, np.fft.irfft(turns, 256))[: len(take)].astype(np.float32)
    alignment = found(take, turned)
    assert alignment.score > 0.8
    assert alignment.phase_agreement < 0.5
    assert found(take, take).phase_agreement > 0.999


@pytest.mark.parametrize("rate_hz", [22_050, 44_100])
def test_other_sample_rates(rate_hz: int) -> None:
    random = np.random.default_rng(4)
    noise = lfilter([1], [1, -0.9], random.standard_normal(10 * rate_hz)) * (1 + np.sin(np.arange(10 * rate_hz) / 5000))
    raw = noise.astype(np.float32)
    alignment = align(raw, -np.pad(raw, (1234, 0)), rate_hz)
    assert alignment is not None
    assert only(alignment).offset_s == pytest.approx(1234 / rate_hz, abs=1e-5)
    assert alignment.polarity == -1


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[2, 100\]"):
        align(np.zeros((2, 100)), np.zeros(100), RATE_HZ)
    with pytest.raises(ValueError, match="4000 Hz"):
        align(np.zeros(100), np.zeros(100), 4000)


@pytest.mark.slow
def test_an_hour_is_aligned_in_little_memory(tmp_path: Path) -> None:
    """230 MB on either side; what is allocated at the same time stays under 150 MB. Regions stay in order."""
    samples = 3600 * RATE_HZ
    raw = np.memmap(tmp_path / "raw", np.float32, "w+", shape=(samples,))
    mix = np.memmap(tmp_path / "mix", np.float32, "w+", shape=(samples + 7 * RATE_HZ,))
    for index, start in enumerate(range(0, samples, 60 * RATE_HZ)):
        part = voice(index, 60.0)
        raw[start : start + len(part)] = part
        mix[start + 7 * RATE_HZ : start + 7 * RATE_HZ + len(part)] = -mixed(part, index)
    tracemalloc.start()
    alignment = align(raw, mix, RATE_HZ)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert alignment is not None
    assert only(alignment).offset_s == pytest.approx(7, abs=1e-4)
    assert alignment.polarity == -1
    assert alignment.coverage > 0.99
    assert peak_bytes < 150e6


def test_memory_grows_far_slower_than_the_take() -> None:
    """One more minute is 4 MB more audio a side, and less than a fifth of that more memory."""
    peaks = []
    parts = [voice(index, 60.0) for index in range(3)]
    for minutes in (2, 3):
        raw = np.concatenate(parts[:minutes])
        mix = np.pad(raw, (100, 0))
        tracemalloc.start()
        assert align(raw, mix, RATE_HZ) is not None
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert all(after - before < 0.2 * 60 * RATE_HZ * 4 for before, after in pairwise(peaks))
