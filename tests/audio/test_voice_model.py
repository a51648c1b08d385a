"""Source and filter of the singing synthesiser against closed-form answers and plain numerical integration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import signal

from audio.articulation import articulate
from audio.glottis import glottal_phase, glottal_source, pulse_coefficients, slow_noise
from audio.score import CODAS, ONSETS, VOICES, Note, Rest
from audio.vocal_tract import filter_moving, formant_response, upper_response

RATE = 48_000
HOP = 240


@pytest.mark.parametrize("open_quotient", [0.3, 0.62, 1.0])
def test_pulse_coefficients_are_the_fourier_series_of_the_pulse(open_quotient: float) -> None:
    t = (np.arange(2**20) + 0.5) / 2**20
    x = t / open_quotient
    pulse = np.where(x <= 1, 2 * x - 3 * x**2, 0.0)
    harmonics = np.array([1, 2, 3, 7, 20, 150])
    integrals = [np.mean(pulse * np.exp(-2j * np.pi * k * t)) for k in harmonics]
    np.testing.assert_allclose(pulse_coefficients(harmonics, np.array(open_quotient)), integrals, atol=1e-5)
    assert pulse.mean() == pytest.approx(0.0, abs=1e-6)  # so leaving out harmonic 0 loses nothing


def test_source_is_the_pulse_train_itself_away_from_its_corners() -> None:
    """With an instant return phase and a low pitch, the band-limited sum follows the polynomial; its level glides."""
    frames = 101
    f0, quotient = np.full(frames, 100.0), np.full(frames, 0.6)
    phase = glottal_phase(f0, hop_samples=HOP, sample_rate=RATE)
    amplitude = np.linspace(0.0, 2.0, frames)
    source = glottal_source(phase, f0, amplitude, quotient, np.full(frames, 1e9), hop_samples=HOP, sample_rate=RATE)
    t = (phase / (2 * np.pi)) % 1
    expected = np.where(t < 0.6, 2 * t / 0.6 - 3 * (t / 0.6) ** 2, 0.0) * np.linspace(0, 2, frames * HOP)[: len(t)]
    smooth = (abs(t - 0.6) > 0.1) & (t > 0.05) & (t < 0.95)
    np.testing.assert_allclose(source[smooth], expected[smooth], atol=0.03)


def test_upper_resonances_are_the_infinite_product_without_its_first_five_factors() -> None:
    frequency = np.array([0.0, 700.0, 3300.0, 6000.0, 9000.0, 16_000.0])
    s = (60.0 + 0.04 * frequency + 2j * frequency) / (2 * 500.0)
    odd = np.arange(11, 600_001, 2)[:, None]
    product = np.prod((1 + (60.0 / 1000.0) ** 2 / odd**2) / (1 + s**2 / odd**2), axis=0)
    np.testing.assert_allclose(upper_response(frequency, "tenor", 1.0), product, rtol=2e-3)


def test_formants_that_stand_still_are_one_analogue_cascade() -> None:
    """The measured impulse response against scipy's analogue frequency response of the same poles."""
    formants = np.array([650.0, 1080.0, 2650.0, 2900.0, 3250.0])
    impulse = np.zeros(40 * HOP)
    impulse[5 * HOP + 17] = 1.0
    response = filter_moving(impulse, np.tile(formants, (41, 1)), "tenor", 1.0, hop_samples=HOP, sample_rate=RATE)
    frequency = np.fft.rfftfreq(len(impulse), 1 / RATE)
    measured = abs(np.fft.rfft(response) / upper_response(frequency, "tenor", 1.0))
    expected = np.ones(len(frequency))
    for centre, bandwidth in zip(formants, (60.0, 85.0, 115.0, 130.0, 145.0), strict=True):
        _, stage = signal.freqs([centre**2], [1.0, bandwidth, centre**2], worN=frequency)
        expected *= abs(stage)
    band = (frequency > 50) & (frequency < 0.4 * RATE)
    np.testing.assert_allclose(20 * np.log10(measured[band] / expected[band]), 0.0, atol=0.05)


def test_moving_formants_do_not_click() -> None:
    """A sine through a fast vowel glide stays a sine with sidebands: a click would reach far away from it."""
    frames = 201
    weight = 0.5 + 0.5 * np.tanh((np.arange(frames)[:, None] - 100) / 4)
    formants = (1 - weight) * [650.0, 1080.0, 2650.0, 2900.0, 3250.0] + weight * [290.0, 1870.0, 2800.0, 3250.0, 3540.0]
    sine = np.sin(2 * np.pi * 500.0 * np.arange((frames - 1) * HOP) / RATE)
    swept = filter_moving(sine, formants, "tenor", 1.0, hop_samples=HOP, sample_rate=RATE)[20 * HOP : -20 * HOP]
    frequency, power = signal.periodogram(swept, RATE, window="blackmanharris")
    assert power[frequency > 4000].sum() < 1e-7 * power.sum()


def test_formant_response_has_gain_one_at_zero_and_peaks_at_the_formants() -> None:
    frequency = np.arange(0.0, 5000.0, 5.0)
    formants = np.array([[500.0, 1500.0, 2500.0, 3500.0, 4500.0], [300.0, 2200.0, 2900.0, 3800.0, 4700.0]])
    gain = abs(formant_response(frequency, formants))
    for row, centres in zip(gain, formants, strict=True):
        peaks = frequency[signal.argrelmax(row)[0]]
        np.testing.assert_allclose(peaks, centres, atol=15.0)
    np.testing.assert_allclose(gain[:, 0], 1.0)


def test_slow_noise_is_smooth_and_of_about_unit_variance() -> None:
    noise = slow_noise(200_000, rate_hz=2.0, frame_rate_hz=200.0, generator=np.random.default_rng(0))
    assert 0.7 < noise.std() < 1.0  # 1 at the knots, √½ half-way between two independent ones
    assert abs(np.diff(noise)).max() < 0.1


@pytest.mark.parametrize("duration_s", [0.1, 0.25, 2.0])
def test_segments_fill_every_note_and_leave_room_for_its_vowel(duration_s: float) -> None:
    for onset, coda in product(["", *ONSETS], ["", *CODAS]):
        notes = [Rest(0.3, inhale=True), Note(57, duration_s, onset + "ai" + coda), Rest(0.05)]
        gesture = articulate(notes, VOICES["tenor"], sample_rate=RATE)
        assert sum(segment.duration_s for segment in gesture.segments) == pytest.approx(duration_s + 0.35)
        assert all(segment.duration_s >= 0 for segment in gesture.segments)
        vowel_s = sum(segment.duration_s for segment in gesture.segments if segment.breath and segment.voicing)
        assert vowel_s > 0.15 * duration_s
        starts_s = np.cumsum([0.0, *(segment.duration_s for segment in gesture.segments)])
        for burst in gesture.bursts:
            opening = int(np.argmin(abs(starts_s - burst.start_s)))
            assert burst.start_s == pytest.approx(starts_s[opening])
            assert gesture.segments[opening].voicing == 0.0
            assert burst.start_s >= 0.3
            assert burst.start_s + burst.duration_s <= 0.3 + duration_s + 1e-9
