"""The course of a mix's loudness beside that of its take, and the slow gain that brings it back."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyloudnorm
import pytest
import torch

from audio.waveform import Waveform
from restyler.guards import LOUDNESS_BOUND_DB, REPAIRED_WITHIN_DB, Guard
from restyler.guards_loudness import repair_db, short_term_lufs, step_powers, trajectories, with_gain

RATE = 16_000
SECONDS = 24
STEPS = SECONDS * 10


def made(level_db: np.ndarray, seed: int = 0) -> Waveform:
    """Stereo noise whose level is given at evenly spaced moments; −inf is silence."""
    noise = np.random.default_rng(seed).normal(size=(2, SECONDS * RATE)) * 0.05
    with np.errstate(invalid="ignore"):
        course = np.interp(np.arange(SECONDS * RATE), np.linspace(0, SECONDS * RATE, len(level_db)), level_db)
    return Waveform(
        torch.from_numpy(noise * 10 ** (np.nan_to_num(course, nan=-200.0, neginf=-200.0) / 20)).float(), RATE
    )


@pytest.fixture(scope="module")
def take() -> Waveform:
    """Phrases of different levels with two pauses of a second and a half."""
    level_db = 4 * np.sin(np.linspace(0, 9, STEPS)) + 2 * np.sin(np.linspace(0, 40, STEPS))
    level_db[80:95] = level_db[160:175] = -np.inf
    return made(level_db)


def changed(take: Waveform, gain_db: np.ndarray) -> Waveform:
    """The take under a gain at evenly spaced moments, by numpy alone."""
    samples = take.samples.shape[1]
    gain = 10 ** (np.interp(np.arange(samples), np.linspace(0, samples, len(gain_db)), gain_db) / 20)
    return Waveform(take.samples * torch.from_numpy(gain).float(), take.sample_rate)


def test_short_term_loudness_is_that_of_three_seconds(take: Waveform) -> None:
    """pyloudnorm's integrated loudness of a single block of 3.1 s, the window of a step in the middle."""
    found = short_term_lufs(step_powers(take))
    assert len(found) == STEPS
    for step in (15, 50, 120, 224):
        first, last = (step - 15) * RATE // 10, (step + 16) * RATE // 10
        # Filtered from the start on, as a meter runs, the block cut out after it.
        meter = pyloudnorm.Meter(RATE, "DeMan", block_size=3.09)
        weighted = take.samples.double().numpy()
        for section in meter._filters.values():
            weighted = np.stack([section.apply_filter(channel) for channel in weighted])
        power = np.square(weighted[:, first:last]).mean(axis=1).sum()
        assert found[step] == pytest.approx(-0.691 + 10 * np.log10(power), abs=0.02)


def test_a_gain_is_no_straying_and_a_compressor_is_the_line(take: Waveform) -> None:
    powers = step_powers(take)
    gained = trajectories(powers, step_powers(Waveform(take.samples * 0.3, RATE)))
    assert gained.furthest_db < 0.01 and gained.slope == pytest.approx(0, abs=0.01)
    course = short_term_lufs(powers)
    compressed = changed(take, -0.5 * (course - course.max()))  # so slow that the line is nearly exact
    found = trajectories(powers, step_powers(compressed))
    assert found.slope == pytest.approx(-0.5, abs=0.12)
    assert found.furthest_db < 2
    expanded = trajectories(powers, step_powers(changed(take, 0.8 * (course - course.max()))))
    assert expanded.slope == 0.0  # mixing does not widen
    assert expanded.furthest_db > 2 * found.furthest_db


def test_a_level_that_wanders_is_told_by_how_far(take: Waveform) -> None:
    powers = step_powers(take)
    straying = [
        trajectories(powers, step_powers(changed(take, size * np.repeat([0, 0, 1, 1, 0, 0], 40)))).furthest_db
        for size in (0, 3, 6, -6)
    ]
    assert straying[0] < 0.01
    assert straying[1:] == pytest.approx([3, 6, 6], abs=0.9)


def test_the_course_of_an_hour_takes_no_more_memory_than_that_of_ten_minutes() -> None:
    """The line is laid through every pair of moments: of all that an hour has they would take 300 MiB. It is found
    nevertheless: a compressor by a half, and a level that is 6 dB too low for a minute."""
    random = np.random.default_rng(0)
    take_db = -20 + 6 * np.sin(np.linspace(0, 2000, 36_000)) + random.normal(size=36_000)
    mix_db = -10 + 0.5 * take_db
    mix_db[20_000:20_600] -= 6
    tracemalloc.start()
    try:
        found = trajectories(10 ** (take_db / 10), 10 ** (mix_db / 10))
        peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak_mib < 16
    assert found.slope == pytest.approx(-0.5, abs=0.05)
    assert found.furthest_db == pytest.approx(6, abs=1)


def test_the_slow_gain_brings_it_back_to_the_bound_and_no_further(take: Waveform) -> None:
    powers = step_powers(take)
    wandering = changed(take, 6 * np.sin(np.linspace(0, 7, 50)))
    before = trajectories(powers, step_powers(wandering))
    assert before.furthest_db > LOUDNESS_BOUND_DB + 1
    gain_db = repair_db(powers, step_powers(wandering), LOUDNESS_BOUND_DB)
    repaired = with_gain(wandering, gain_db)
    after = trajectories(powers, step_powers(repaired))
    assert after.furthest_db <= LOUDNESS_BOUND_DB + REPAIRED_WITHIN_DB
    assert after.furthest_db > LOUDNESS_BOUND_DB - 1.5
    assert np.abs(np.diff(gain_db)).max() < 0.5  # dB in 0.1 s: a fader, not a compressor
    written = 20 * np.log10(np.abs(repaired.samples.numpy()) / np.maximum(np.abs(wandering.samples.numpy()), 1e-9))
    heard = np.abs(wandering.samples.numpy()) > 1e-3
    middles = (np.arange(STEPS) + 0.5) * RATE / 10
    expected = np.interp(np.arange(SECONDS * RATE), middles, gain_db)
    assert np.abs((written - expected)[heard]).max() < 0.01


def test_pauses_ask_for_no_gain(take: Waveform) -> None:
    """A hum in the pauses of the take, far over what it has there, is left alone."""
    hum = Waveform(take.samples + made(np.full(STEPS, -15.0), seed=1).samples, RATE)
    guarded, verdict = Guard(take)(hum, repairs=True)
    assert verdict.gain_db == 0 and guarded.samples is hum.samples
    wandering = changed(take, np.repeat([0, 0, 7, 7, 0, 0], 40))
    gain_db = repair_db(step_powers(take), step_powers(wandering), LOUDNESS_BOUND_DB)
    for pause in (slice(80, 95), slice(160, 175)):
        between = gain_db[pause]
        ends = sorted((between[0], between[-1]))
        assert ends[0] - 1e-6 <= between.min() and between.max() <= ends[1] + 1e-6


def test_what_is_within_the_bound_is_not_touched(take: Waveform) -> None:
    steady = changed(take, np.repeat([0, 2, 0, -1], 30))
    guarded, verdict = Guard(take)(steady, repairs=True)
    assert torch.equal(guarded.samples, steady.samples)
    assert (verdict.gain_db, verdict.note()) == (0.0, "")


def test_what_no_slow_gain_can_mend_is_refused(take: Waveform) -> None:
    length = take.samples.shape[1]
    truncated = Waveform(take.samples * (torch.arange(length) < 0.7 * length), RATE)
    _, verdict = Guard(take)(truncated, repairs=True)
    assert verdict.gain_db == 0.0
    assert any("loudness strays" in fault for fault in verdict.faults)
    wandering = changed(take, np.repeat([0, 0, 7, 7, 0, 0], 40))
    guarded, verdict = Guard(take)(wandering, repairs=False)  # a chain's
    assert torch.equal(guarded.samples, wandering.samples)
    assert "loudness strays" in verdict.note()
    _, repaired = Guard(take)(wandering, repairs=True)
    assert repaired.faults == () and repaired.gain_db > 1
    assert repaired.note().startswith("loudness strayed")


def test_a_mix_shorter_than_its_take_is_no_mix_of_it(take: Waveform) -> None:
    guard = Guard(take)
    with pytest.raises(ValueError, match="as long as its take"):
        guard(Waveform(take.samples[:, :-1], RATE), repairs=True)
    ringing = Waveform(torch.nn.functional.pad(take.samples, (0, RATE)), RATE)
    guarded, verdict = guard(ringing, repairs=True)
    assert verdict.note() == "" and guarded.samples.shape == ringing.samples.shape
