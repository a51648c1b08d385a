"""Loudness and true peak against the standard's own numbers, pyloudnorm, FFmpeg and exact interpolation."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample

from audio import InputError, Waveform
from audio.io import read, write
from audio.loudness import integrated_loudness_lufs, match_loudness, true_peak_db

RATE_HZ = 48_000


def tone(frequency_hz: float, seconds: float, *, phase: float = 0.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    return np.sin(2 * np.pi * frequency_hz / rate_hz * np.arange(round(seconds * rate_hz)) + phase)


def wave(*channels: np.ndarray, rate_hz: int = RATE_HZ) -> Waveform:
    return Waveform(torch.tensor(np.stack(channels), dtype=torch.float32), rate_hz)


def phrases(seconds: float = 6.0, seed: int = 0) -> Waveform:
    """Stereo noise under syllables of different level and with pauses, full up to the Nyquist frequency."""
    random = np.random.default_rng(seed)
    samples = round(seconds * RATE_HZ)
    level_db = np.repeat(random.uniform(-40, 0, 30), -(-samples // 30))[:samples]
    level_db[samples // 3 : samples // 2] = -90
    middle, side = random.standard_normal((2, samples)) * 0.05 * 10 ** (level_db / 20)
    return wave(middle + 0.4 * side, middle - 0.4 * side)


def ffmpeg_loudness(path: Path) -> tuple[float, float]:
    """LUFS to three decimals and dBTP to one, by FFmpeg's ebur128."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg")
    meter = "ebur128=peak=true:metadata=1,ametadata=print:key=lavfi.r128.I:file=-"
    command = ["ffmpeg", "-nostats", "-i", str(path), "-af", meter, "-f", "null", "-"]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    loudness = re.findall(r"lavfi\.r128\.I=(\S+)", result.stdout)
    peak = re.findall(r"Peak:\s+(\S+) dBFS", result.stderr)
    return float(loudness[-1]), float(peak[-1])


def test_the_standards_reference_tone() -> None:
    """BS.1770-4: a 0 dBFS sine of 997 Hz in one channel reads −3.01 LKFS."""
    reference = tone(997, 5)
    assert integrated_loudness_lufs(wave(reference, 0 * reference)) == pytest.approx(-3.01, abs=0.01)


def test_mono_is_measured_as_its_stereo_form() -> None:
    take = phrases()
    mono = Waveform(take.samples[:1], RATE_HZ)
    doubled = integrated_loudness_lufs(mono)
    assert doubled == integrated_loudness_lufs(mono.stereo())
    as_one_channel = pyloudnorm.Meter(RATE_HZ).integrated_loudness(mono.samples[0].double().numpy())
    assert doubled == pytest.approx(as_one_channel + 10 * math.log10(2), abs=0.06)


@pytest.mark.parametrize("seed", range(3))
def test_ffmpeg_and_pyloudnorm_agree(tmp_path: Path, seed: int) -> None:
    take = phrases(seed=seed)
    write(tmp_path / "take.wav", take, tags={})
    loudness, peak = ffmpeg_loudness(tmp_path / "take.wav")
    measured = integrated_loudness_lufs(take)
    assert measured == pytest.approx(loudness, abs=0.03)
    # pyloudnorm's default filters differ from the standard's by 0.04 dB.
    by_default = pyloudnorm.Meter(RATE_HZ).integrated_loudness(take.samples.T.double().numpy())
    assert measured == pytest.approx(by_default, abs=0.06)
    # FFmpeg oversamples four times, less exactly: on noise up to the Nyquist frequency it reads a little lower.
    assert -0.1 <= true_peak_db(take) - peak <= 0.5


def test_real_singing_measures_as_in_ffmpeg(shared_data: Path, tmp_path: Path) -> None:
    for path in sorted((shared_data / "research/pairs").glob("MusicDelta_*__wet.mp3"))[:3]:
        take = read(path)
        write(tmp_path / "take.wav", take, tags={})
        loudness, peak = ffmpeg_loudness(tmp_path / "take.wav")
        assert integrated_loudness_lufs(take) == pytest.approx(loudness, abs=0.03)
        assert true_peak_db(take) == pytest.approx(peak, abs=0.1)


@settings(max_examples=15, deadline=None)
@given(gain_db=st.floats(-20, 30), silence_s=st.floats(0, 3))
def test_gain_adds_and_pauses_do_not_count(gain_db: float, silence_s: float) -> None:
    take = phrases(3.0)
    padded = torch.nn.functional.pad(take.samples, (0, round(silence_s * RATE_HZ)))
    louder = Waveform(padded * 10 ** (gain_db / 20), RATE_HZ)
    assert integrated_loudness_lufs(louder) == pytest.approx(integrated_loudness_lufs(take) + gain_db, abs=0.3)


@settings(max_examples=40, deadline=None)
@given(samples=st.integers(2_000, 19_300))
def test_less_than_a_block_is_measured_over_its_own_length(samples: int) -> None:
    steady = tone(997, 1) * 0.1
    assert integrated_loudness_lufs(wave(steady[:samples])) == pytest.approx(-20.0, abs=0.4)


def test_what_the_gate_leaves_nothing_of_has_no_loudness() -> None:
    for amplitude in (0.0, 1e-4):
        quiet = wave(tone(997, 1) * amplitude)
        assert integrated_loudness_lufs(quiet) == -math.inf
        with pytest.raises(InputError, match="too quiet"):
            match_loudness(quiet, -18)


def test_true_peak_lies_between_the_samples() -> None:
    """A sine at a quarter of the sample rate, 45° off: every sample at ±0.707, the peak at 1."""
    sine = tone(RATE_HZ / 4, 1, phase=np.pi / 4) * np.hanning(RATE_HZ)
    sample_peak_db = 20 * math.log10(np.abs(sine).max())
    assert true_peak_db(wave(sine)) == pytest.approx(sample_peak_db + 3.01, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(cycles=st.floats(0.01, 0.495), phase=st.floats(0, 2 * np.pi), rate_hz=st.sampled_from([44_100, 48_000, 96_000]))
def test_true_peak_of_any_tone(cycles: float, phase: float, rate_hz: int) -> None:
    swell = np.hanning(rate_hz // 2) * 0.5
    swelling = tone(cycles * rate_hz, 0.5, phase=phase, rate_hz=rate_hz) * swell
    too_high_db = true_peak_db(wave(0 * swelling, swelling, rate_hz=rate_hz)) - 20 * math.log10(0.5)
    assert -0.18 <= too_high_db <= 0.002  # the worst tone found reads 0.0011 dB too high, near 0.46 cycles per sample


@pytest.mark.parametrize("seed", range(5))
def test_true_peak_of_noise_against_exact_interpolation(seed: int) -> None:
    """A periodic signal is interpolated exactly by its Fourier series: 32 points between any two samples."""
    period = np.random.default_rng(seed).standard_normal(2048) * 0.1
    spectrum = np.fft.rfft(period)
    spectrum[970:] = 0  # up to 0.95 of the Nyquist frequency, where the interpolator's transition begins
    period = np.fft.irfft(spectrum)
    exact_db = 20 * math.log10(np.abs(resample(period, 2048 * 32)).max())
    inner = true_peak_db(wave(np.tile(period, 6) * np.repeat([0, 0.5, 1, 1, 0.5, 0], 2048)))
    assert inner == pytest.approx(exact_db, abs=0.17)


def test_silence_has_no_peak() -> None:
    assert true_peak_db(wave(np.zeros(4_800))) == -math.inf


def test_the_target_is_met_where_the_peak_allows() -> None:
    take = phrases()
    matched = match_loudness(take, -30.0)
    assert not matched.limited
    assert integrated_loudness_lufs(matched.waveform) == pytest.approx(-30.0, abs=1e-3)
    assert matched.gain_db == pytest.approx(-30.0 - integrated_loudness_lufs(take))
    torch.testing.assert_close(matched.waveform.samples, take.samples * 10 ** (matched.gain_db / 20))


@pytest.mark.parametrize("peak_db", [-1.0, -6.0, 0.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_peak_wins_by_one_gain(tmp_path: Path, peak_db: float, seed: int) -> None:
    take = phrases(seed=seed)
    matched = match_loudness(take, 0.0, peak_db=peak_db)
    assert matched.limited
    torch.testing.assert_close(matched.waveform.samples, take.samples * 10 ** (matched.gain_db / 20))
    write(tmp_path / "mix.wav", matched.waveform, tags={})
    assert peak_db - 0.01 < true_peak_db(read(tmp_path / "mix.wav")) <= peak_db
    assert ffmpeg_loudness(tmp_path / "mix.wav")[1] <= peak_db
    assert integrated_loudness_lufs(matched.waveform) < 0.0


@pytest.mark.parametrize(
    ("target_lufs", "peak_db"), [(math.nan, -1.0), (-math.inf, -1.0), (-18.0, 0.1), (-18.0, math.nan)]
)
def test_impossible_targets_are_refused(target_lufs: float, peak_db: float) -> None:
    with pytest.raises(ValueError, match="a finite target and a ceiling of at most 0 dBTP"):
        match_loudness(phrases(1.0), target_lufs, peak_db=peak_db)
