"""What an inspection says of a file, against analytic answers, scipy, ffmpeg and the whole-file measures."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio import InputError, Waveform
from audio.activity import decode_levels, encode_levels
from audio.inspection import PROXY_RATE_HZ, Inspection, inspect
from audio.io import blocks, read
from audio.loudness import integrated_loudness_lufs, true_peak_db
from audio.spectrum import THIRD_OCTAVES_HZ

RATE_HZ = 48_000


def noise(seconds: float = 3.0, channels: int = 2, level: float = 0.1, seed: int = 0) -> np.ndarray:
    """[samples channels]"""
    return np.random.default_rng(seed).normal(0, level, (round(seconds * RATE_HZ), channels))


def inspected(tmp_path: Path, samples: np.ndarray, rate_hz: int = RATE_HZ, subtype: str = "FLOAT") -> Inspection:
    soundfile.write(tmp_path / "take.wav", samples, rate_hz, subtype=subtype)
    return inspect(tmp_path / "take.wav", None)


def tone(frequency_hz: float, amplitude: float = 1.0, seconds: float = 4.0) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * frequency_hz / RATE_HZ * np.arange(round(seconds * RATE_HZ)))


@pytest.mark.parametrize("channels", [1, 2])
def test_figures_are_those_of_the_whole_file(tmp_path: Path, channels: int) -> None:
    found = inspected(tmp_path, noise(7.1, channels), subtype="PCM_24")
    whole = read(tmp_path / "take.wav")
    assert (found.duration_s, found.sample_rate, found.channels) == (pytest.approx(7.1), RATE_HZ, channels)
    assert found.loudness_lufs == pytest.approx(integrated_loudness_lufs(whole), abs=0.01)
    assert found.true_peak_db == pytest.approx(true_peak_db(whole), abs=0.05)
    assert found.sample_peak_db == pytest.approx(20 * math.log10(whole.samples.abs().max()), abs=1e-6)
    assert found.file_hash == hashlib.sha256((tmp_path / "take.wav").read_bytes()).hexdigest()


@pytest.mark.parametrize(("rate_hz", "channels"), [(48_000, 2), (44_100, 1), (16_000, 2), (22_050, 2)])
def test_the_proxy_is_the_mean_at_16_khz(tmp_path: Path, rate_hz: int, channels: int) -> None:
    soundfile.write(tmp_path / "take.flac", noise(6.3, channels), rate_hz)
    inspect(tmp_path / "take.flac", tmp_path / "take.f32")
    proxy = np.memmap(tmp_path / "take.f32", np.float32)
    whole = read(tmp_path / "take.flac")
    mean = Waveform(whole.samples.mean(dim=0, keepdim=True), rate_hz).resampled(PROXY_RATE_HZ)
    torch.testing.assert_close(torch.from_numpy(np.array(proxy))[None], mean.samples, atol=1e-5, rtol=0)


def test_one_recording_in_two_formats_has_one_hash_of_its_samples(tmp_path: Path) -> None:
    samples = np.round(noise(6.5) * 2**15).astype(np.int16)
    files = {"a.wav": samples, "b.flac": samples, "c.wav": samples + np.eye(1, len(samples), 77, np.int16).T}
    hashes = {}
    for name, content in files.items():
        soundfile.write(tmp_path / name, content, RATE_HZ, subtype="PCM_16")
        hashes[name] = inspect(tmp_path / name, None)
    assert hashes["a.wav"].audio_hash == hashes["b.flac"].audio_hash != hashes["c.wav"].audio_hash
    assert len({found.file_hash for found in hashes.values()}) == 3
    soundfile.write(tmp_path / "d.wav", samples, 44_100, subtype="PCM_16")
    assert inspect(tmp_path / "d.wav", None).audio_hash != hashes["a.wav"].audio_hash


def test_an_inspection_survives_json(tmp_path: Path) -> None:
    for samples in (noise(1.0), np.zeros((RATE_HZ, 1)), noise(0.1, 1)):
        found = inspected(tmp_path, samples)
        text = json.dumps(found.to_record(), allow_nan=False)
        assert Inspection.from_record(json.loads(text)) == found


def test_silence_is_minus_infinite(tmp_path: Path) -> None:
    found = inspected(tmp_path, np.zeros((RATE_HZ, 2)))
    levels = (found.loudness_lufs, found.true_peak_db, found.sample_peak_db, found.dc_db, found.dc_to_rms_db)
    assert {*levels, found.side_db, found.quiet_channel_db, found.loud_db, found.noise_floor_db} == {-math.inf}
    assert (found.active_s, found.bandwidth_hz, found.clipped_tops, found.dropouts) == (0, 0, 0, 0)
    assert found.to_record()["loudness_lufs"] is None


def test_stereo_that_is_not(tmp_path: Path) -> None:
    left, right = noise(2.0).T
    independent = inspected(tmp_path, np.stack([left, right], axis=1))
    assert independent.side_db == pytest.approx(-3.01, abs=0.1)
    assert independent.quiet_channel_db == pytest.approx(0, abs=0.1)
    equal = inspected(tmp_path, np.stack([left, left], axis=1))
    assert (equal.side_db, equal.quiet_channel_db) == (-math.inf, 0)
    dead = inspected(tmp_path, np.stack([left, 0 * left], axis=1))
    assert (dead.side_db, dead.quiet_channel_db) == (pytest.approx(-3.01, abs=0.01), -math.inf)
    opposite = inspected(tmp_path, np.stack([left, -left], axis=1))
    assert (opposite.side_db, opposite.quiet_channel_db) == (0, 0)
    slightly = inspected(tmp_path, np.stack([left, left + 0.01 * right], axis=1))
    assert slightly.side_db == pytest.approx(20 * math.log10(0.005), abs=0.1)
    assert inspected(tmp_path, left[:, None]).side_db == -math.inf


def test_a_direct_component_is_measured_in_the_worse_channel(tmp_path: Path) -> None:
    samples = noise(4.0) * 0.5 + [0.0, 0.02]
    found = inspected(tmp_path, samples)
    assert found.dc_db == pytest.approx(20 * math.log10(0.02), abs=0.1)
    rms = math.sqrt(0.05**2 + 0.02**2)
    assert found.dc_to_rms_db == pytest.approx(20 * math.log10(0.02 / rms), abs=0.1)
    assert inspected(tmp_path, 0.01 * samples).dc_to_rms_db == pytest.approx(found.dc_to_rms_db, abs=1e-3)


def test_levels_follow_the_sound(tmp_path: Path) -> None:
    gain_db = np.repeat([-10.0, -25.0, -45.0, -200.0, -10.0], RATE_HZ)
    found = inspected(tmp_path, (tone(997, seconds=5) * 10 ** (gain_db / 20))[:, None])
    steps = found.level_db.reshape(5, 20)
    np.testing.assert_allclose(steps[:3].T, np.tile([-13, -28, -48], (20, 1)), atol=0.4)
    assert (steps[3] == -120).all()
    # 35 dB under the loud parts is not active, nor is silence; and the quietest sound counts as the floor.
    assert found.active_s == pytest.approx(3.0, abs=0.06)
    assert found.loud_db == pytest.approx(-13, abs=0.4) and found.noise_floor_db == pytest.approx(-48, abs=0.4)


def test_level_codes_hold_the_whole_range() -> None:
    level_db = np.arange(-119.0, 39.0)
    np.testing.assert_allclose(decode_levels(encode_levels(10 ** (level_db / 10))), level_db, atol=0.32)
    assert decode_levels(encode_levels(np.array([0.0, 1e-13]))).tolist() == [-120, -120]


@pytest.mark.parametrize("frequency_hz", [199.5, 1000.0, 15_849.0])
def test_a_tone_lies_in_its_third_octave(tmp_path: Path, frequency_hz: float) -> None:
    found = inspected(tmp_path, tone(frequency_hz, 0.5)[:, None])
    bands_db = np.array(found.third_octaves_db)
    at = int(np.argmin(np.abs(np.log(np.array(THIRD_OCTAVES_HZ) / frequency_hz))))
    assert bands_db[at] == pytest.approx(-9.03, abs=0.05)
    assert np.delete(bands_db, [at - 1, at, at + 1]).max() < -40


def test_third_octaves_of_white_noise(tmp_path: Path) -> None:
    """Power in proportion to the width; and the parts over the Nyquist frequency are empty."""
    found = inspected(tmp_path, noise(20.0, 2, 0.1))
    width_hz = np.array(THIRD_OCTAVES_HZ) * (10**0.05 - 10**-0.05)
    np.testing.assert_allclose(found.third_octaves_db[6:], (-20 + 10 * np.log10(width_hz / 24_000))[6:], atol=0.5)
    soundfile.write(tmp_path / "low.wav", noise(2.0), 16_000)
    assert inspect(tmp_path / "low.wav", None).third_octaves_db[-3:] == (-math.inf,) * 3


def test_bandwidth_shows_where_a_file_came_from(tmp_path: Path) -> None:
    assert inspected(tmp_path, noise(2.0), subtype="PCM_16").bandwidth_hz == 24_000
    narrow = Waveform(torch.from_numpy(noise(2.0).T.astype(np.float32)), 22_050).resampled(RATE_HZ)
    found = inspected(tmp_path, narrow.samples.numpy().T, subtype="PCM_16")
    assert found.bandwidth_hz == pytest.approx(11_025, abs=400)
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg")
    soundfile.write(tmp_path / "full.wav", noise(2.0), RATE_HZ)
    coded = ["ffmpeg", "-loglevel", "error", "-i", tmp_path / "full.wav", "-b:a", "128k", tmp_path / "coded.mp3"]
    subprocess.run(coded, check=True)
    assert 15_500 <= inspect(tmp_path / "coded.mp3", None).bandwidth_hz <= 17_500


def test_faults_reach_the_inspection(tmp_path: Path) -> None:
    samples = np.clip(noise(2.0, 1, 0.3), -0.5, 0.5)
    samples[RATE_HZ : RATE_HZ + 480] = 0
    found = inspected(tmp_path, samples)
    assert found.clipped_tops > 10 and found.clipped_samples >= 3 * found.clipped_tops
    assert found.dropouts == 1 and found.dropout_times_s == (pytest.approx(1.0, abs=1e-3),)


def test_refused_files_leave_no_proxy(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "take.flac", noise(30.0), RATE_HZ)
    content = bytearray((tmp_path / "take.flac").read_bytes())
    content[len(content) * 2 // 3] ^= 0xFF
    (tmp_path / "take.flac").write_bytes(content)
    proxy = tmp_path / "take.f32"
    with pytest.raises(InputError, match=r"take\.flac: damaged"):
        inspect(tmp_path / "take.flac", proxy)
    assert not proxy.exists()
    with pytest.raises(InputError, match=r"absent\.wav: cannot be read"):
        inspect(tmp_path / "absent.wav", proxy)
    assert not proxy.exists()


def test_a_proxy_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "take.wav", noise(1.0), RATE_HZ)
    with pytest.raises(InputError, match=r"nowhere/take\.f32: cannot be written"):
        inspect(tmp_path / "take.wav", tmp_path / "nowhere/take.f32")


GROWTH = """
import resource, sys
from pathlib import Path
from audio.inspection import inspect
short, long, proxy = map(Path, sys.argv[1:])
inspect(short, proxy)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
inspect(long, proxy)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize("minutes", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, minutes: int) -> None:
    """In one piece, two minutes of samples take 46 MB and an hour 1400 MB."""
    part = noise(20.0) * np.geomspace(1, 1e-3, 20 * RATE_HZ)[:, None]
    for name, times in (("short.wav", 1), ("long.wav", 3 * minutes)):
        with soundfile.SoundFile(tmp_path / name, "w", RATE_HZ, 2, "PCM_16") as file:
            for _ in range(times):
                file.write(part)
    command = [sys.executable, "-c", GROWTH, tmp_path / "short.wav", tmp_path / "long.wav", tmp_path / "proxy.f32"]
    grown_mb = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown_mb < 30
    assert (tmp_path / "proxy.f32").stat().st_size == 4 * 60 * minutes * PROXY_RATE_HZ


def test_real_takes_and_mixes_are_healthy(shared_data: Path, tmp_path: Path) -> None:
    """A few of each kind."""
    takes = [
        *sorted((shared_data / "research/pairs").glob("*__dry.mp3"))[::6],
        *sorted((shared_data / "research/pairs").glob("*__wet.mp3"))[::6],
        *sorted((shared_data / "voices/dry").glob("*"))[::80],
    ]
    for path in takes:
        found = inspect(path, None)
        assert found.clipped_samples < 1 * max(found.active_s, 10) and found.dropouts == 0
        assert found.dc_to_rms_db < -20 and found.bandwidth_hz > 17_000
        assert 0.2 * found.duration_s < found.active_s <= found.duration_s
        assert (found.side_db > -60) == ("wet" in path.name)
        assert sum(block.samples.shape[1] for block in blocks(path)) == round(found.duration_s * found.sample_rate)
