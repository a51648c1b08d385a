"""Fidelity: closed forms, ffmpeg, scipy, torchaudio, and the published table."""

from __future__ import annotations

import itertools
import math
import re
import shutil
import statistics
import subprocess

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import welch
from torchaudio.transforms import MelSpectrogram

from audio import io
from audio.errors import InputError
from audio.singing import demo_take
from audio.waveform import Waveform
from restyler.evaluate.descriptors import (
    BARK_EDGES_HZ,
    bark_levels_db,
    centroid_hz,
    crest_db,
    imbalance_db,
    loudness_range_lu,
    mel_levels_db,
    width_db,
)
from restyler.evaluate.fidelity import FIDELITY, fidelity, mel_distance_db, tonal_balance_error_db
from restyler.metrics import at_loudness, spectral_distance

RATE = 44_100


@pytest.fixture(scope="module")
def mix():
    take = demo_take(RATE).samples[:, : 5 * RATE]
    return Waveform(torch.cat([take + 0.2 * take.roll(300, 1), take]), RATE)


def noise(seconds=4.0, seed=0, rate=RATE):
    return 0.1 * torch.randn(2, round(seconds * rate), generator=torch.Generator().manual_seed(seed))


def tone(frequency_hz, level_db=0.0, seconds=4.0, rate=RATE):
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    wave = 10 ** (level_db / 20) * torch.sin(2 * torch.pi * frequency_hz * time)
    return wave.float().repeat(2, 1)


def test_the_mix_itself_is_at_no_distance(mix):
    assert fidelity(mix, mix) == {quantity.name: 0.0 for quantity in FIDELITY}


def test_a_gain_is_an_error_of_loudness_alone(mix):
    found = fidelity(mix, Waveform(0.5 * mix.samples, RATE))
    assert found.pop("lufs_error_lu") == pytest.approx(20 * math.log10(2), abs=1e-3)
    assert max(found.values()) < 2e-3


def test_each_error_is_moved_by_its_own_cause(mix):
    left, right = mix.samples
    middle, side = (left + right) / 2, (left - right) / 2
    wider = Waveform(torch.stack([middle + 3 * side, middle - 3 * side]), RATE)
    assert fidelity(mix, wider)["width_error_db"] == pytest.approx(20 * math.log10(3), abs=0.8)  # less by the floor
    turned = Waveform(torch.stack([left, 0.5 * right]), RATE)
    assert fidelity(mix, turned)["imbalance_error_db"] == pytest.approx(20 * math.log10(2), abs=0.02)
    clipped = Waveform(mix.samples.clamp(-0.3, 0.3) if mix.samples.abs().max() > 0.4 else mix.samples.tanh(), RATE)
    assert fidelity(mix, clipped)["crest_error_db"] > 0.5


def test_other_shapes_and_silence_are_refused(mix):
    with pytest.raises(ValueError, match="one shape"):
        fidelity(mix, Waveform(mix.samples[:, 1:], RATE))
    with pytest.raises(InputError, match="silent"):
        fidelity(mix, Waveform(torch.zeros_like(mix.samples), RATE))


# -- descriptors


@pytest.mark.parametrize("levels_dbfs", [(-20, -30), (-20, -15), (-40, -20)])
def test_loudness_range_of_the_standards_own_signals(levels_dbfs):
    """EBU Tech 3342, table 1, cases 1 to 3: two steady levels of 20 s have their difference as range, ± 1 LU."""
    samples = torch.cat([tone(1000, level, 20.0, 48_000) for level in levels_dbfs], 1)
    expected = abs(levels_dbfs[1] - levels_dbfs[0])
    assert loudness_range_lu(Waveform(samples, 48_000)) == pytest.approx(expected, abs=0.5)


def test_a_steady_tone_has_no_loudness_range():
    assert loudness_range_lu(Waveform(tone(1000), RATE)) < 0.01
    assert loudness_range_lu(Waveform(tone(1000)[:1, : 3 * RATE], RATE)) == 0
    assert math.isnan(loudness_range_lu(Waveform(tone(1000)[:, : 3 * RATE - 1], RATE)))


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="compares with ffmpeg")
def test_loudness_range_is_that_of_ffmpeg(tmp_path):
    take = demo_take(48_000)
    fade = torch.linspace(0, -24, take.samples.shape[1])
    waveform = Waveform((take.samples * 10 ** (fade / 20)).repeat(2, 1), 48_000)
    soundfile.write(tmp_path / "take.wav", waveform.samples.T.numpy(), 48_000, subtype="FLOAT")
    command = ["ffmpeg", "-nostats", "-i", str(tmp_path / "take.wav"), "-filter_complex", "ebur128", "-f", "null", "-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    expected = float(re.findall(r"LRA:\s+([\d.]+) LU", text)[-1])
    assert expected > 8 and loudness_range_lu(waveform) == pytest.approx(expected, abs=0.35)


def test_crest_of_known_waves():
    assert crest_db(Waveform(tone(441), RATE)) == pytest.approx(10 * math.log10(2), abs=1e-3)
    assert crest_db(Waveform(tone(441).sign(), RATE)) == pytest.approx(0, abs=0.05)  # a few samples are 0
    one_side = torch.stack([tone(441)[0], torch.zeros(4 * RATE)])
    assert crest_db(Waveform(one_side, RATE)) == pytest.approx(20 * math.log10(2), abs=1e-3)


def test_centroids_of_tones_and_noise():
    assert centroid_hz(Waveform(tone(3000), RATE)) == pytest.approx(3000, rel=0.01)
    assert centroid_hz(Waveform(noise(), RATE)) == pytest.approx(RATE / 4, rel=0.01)


def test_tonal_balance_is_that_of_welch(mix):
    frequencies, power = welch(mix.samples.numpy(), RATE, nperseg=2048, noverlap=1536, detrend=False)
    power = power.sum(0)
    shares = [
        power[(frequencies >= low) & (frequencies < high)].sum() / power.sum()
        for low, high in itertools.pairwise(BARK_EDGES_HZ)
    ]
    expected = np.maximum(10 * np.log10(shares), -60)
    assert bark_levels_db(mix)[1:] == pytest.approx(expected[1:], abs=0.1)
    assert bark_levels_db(mix)[0] == pytest.approx(expected[0], abs=1.0)  # next to nothing, but for the ends' frames


def test_tonal_balance_of_a_shelf_has_its_closed_form():
    """White noise, 6 dB less over 4.4 kHz: 18 bands rise against the whole, 6 fall."""
    spectrum = torch.fft.rfft(noise().double())
    frequencies = torch.fft.rfftfreq(4 * RATE, 1 / RATE)
    turned_down = torch.fft.irfft(spectrum * torch.where(frequencies < 4400, 1.0, 10**-0.3), 4 * RATE).float()
    whole_db = 10 * math.log10((4400 + 10**-0.6 * (RATE / 2 - 4400)) / (RATE / 2))
    expected = (18 * abs(whole_db) + 6 * abs(-6 - whole_db)) / 24
    found = tonal_balance_error_db(Waveform(noise(), RATE), Waveform(turned_down, RATE))
    assert found == pytest.approx(expected, abs=0.1)


def test_bands_that_hold_nothing_in_either_do_not_count():
    low, lower = Waveform(tone(250), RATE), Waveform(tone(250) + tone(350, -12), RATE)
    assert (bark_levels_db(low) == -60).sum() > 8
    levels = np.stack([bark_levels_db(low), bark_levels_db(lower)])
    heard = (levels > -60).any(0)
    assert tonal_balance_error_db(low, lower) == pytest.approx(np.abs(np.diff(levels, axis=0))[0, heard].mean())


def test_width_and_imbalance_have_their_closed_form_and_a_floor():
    middle, side = noise()
    for ratio_db in (-20.0, -6.0, 0.0, 10.0):
        gained = 10 ** (ratio_db / 20) * side * middle.norm() / side.norm()
        gained -= middle * (gained @ middle) / (middle @ middle)
        found = width_db(Waveform(torch.stack([middle + gained, middle - gained]), RATE))
        assert found == pytest.approx(ratio_db, abs=0.5 if ratio_db == -20 else 0.1)
    mono, residue = torch.stack([middle, middle]), 0.003 * torch.stack([side, -side])
    assert width_db(Waveform(mono[:1], RATE)) == pytest.approx(-30, abs=0.01)
    assert width_db(Waveform(mono + residue, RATE)) == pytest.approx(-30, abs=0.1)  # what a codec leaves
    assert width_db(Waveform(torch.stack([middle, -middle]), RATE)) == pytest.approx(30, abs=0.01)
    assert imbalance_db(Waveform(torch.stack([middle, 2 * middle]), RATE)) == pytest.approx(6.02, abs=0.02)
    assert imbalance_db(Waveform(torch.stack([middle, 0 * middle]), RATE)) == pytest.approx(-30, abs=0.01)


def test_mel_levels_are_those_of_torchaudio(mix):
    transform = MelSpectrogram(RATE, 2048, hop_length=512, f_min=20, f_max=20_000, n_mels=80, mel_scale="slaney",
                               pad_mode="constant")  # fmt: skip
    power = transform(mix.samples) * 2 / (2048 * torch.hann_window(2048).square().sum())
    expected = (10 * power.log10()).clamp_min(-80).transpose(1, 2).numpy()
    found = mel_levels_db(mix)[:, : expected.shape[1]]
    assert np.abs(found - expected).max() < 0.02


def test_mel_levels_are_in_dbfs():
    levels = mel_levels_db(Waveform(tone(1500), RATE))[:, 20:-20]
    assert 10 * np.log10((10 ** (levels / 10)).sum(-1)) == pytest.approx(-3.01, abs=0.1)


def test_a_panned_noise_has_a_known_mel_distance():
    """One gain per channel that leaves the loudness alone: its dB in every band."""
    sound = Waveform(noise(), RATE)
    gains = torch.tensor([1.2, math.sqrt(2 - 1.2**2)])
    expected = float((20 * gains.log10()).abs().mean())
    assert mel_distance_db(sound, Waveform(sound.samples * gains[:, None], RATE)) == pytest.approx(expected, abs=0.03)
    assert float(at_loudness(sound).square().mean()) > 0


# -- the table


@pytest.mark.slow
def test_the_published_rows_are_reproduced(shared_data):
    """17 engineers' mixes: raw takes, and DiffVox's chains fitted to each mix; mean MSS_lr and median MSS_ms."""
    folder = shared_data / "research/pairs"
    expected = {"dry": (0.834, 2.052), "diffvox": (0.592, 0.847)}
    songs = sorted(path.name.removesuffix("__wet.mp3") for path in folder.glob("*__wet.mp3"))
    assert len(songs) == 17
    for row, figures in expected.items():
        distances = []
        for song in songs:
            sides = [io.read(folder / f"{song}__{side}.mp3").stereo() for side in ("wet", row)]
            length = min(side.samples.shape[1] for side in sides)
            distances.append(spectral_distance(*(Waveform(s.samples[:, :length], s.sample_rate) for s in sides)))
        found = (statistics.fmean(one.lr for one in distances), statistics.median(one.ms for one in distances))
        assert found == pytest.approx(figures, rel=0.02)
