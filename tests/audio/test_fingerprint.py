"""Copies are recognised through what copies go through; other takes are other recordings."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import butter, sosfilt

from audio import Waveform
from audio.fingerprint import RATE_HZ, duplicates, fingerprint
from audio.io import read


@cache
def song(seed: int, seconds: float = 30.0) -> np.ndarray:
    """[samples] at 16 kHz: notes with vibrato and many harmonics, under formants that change with every syllable."""
    random = np.random.default_rng(seed)
    parts = []
    while sum(map(len, parts)) < seconds * RATE_HZ:
        times_s = np.arange(round(random.uniform(0.15, 0.6) * RATE_HZ)) / RATE_HZ
        pitch_hz = random.uniform(120, 400) * (1 + 0.02 * np.sin(2 * np.pi * random.uniform(4, 7) * times_s))
        pulses = np.diff(np.floor(np.cumsum(pitch_hz) / RATE_HZ), prepend=0) + random.normal(0, 0.02, len(times_s))
        sound = np.zeros(len(times_s))
        for formant_hz in (random.uniform(350, 900), random.uniform(1000, 2300), random.uniform(2400, 3500)):
            band = butter(1, [0.92 * formant_hz, 1.08 * formant_hz], "band", fs=RATE_HZ, output="sos")
            sound += sosfilt(band, pulses)
        parts.append(sound * np.hanning(len(sound)) ** 0.3 * random.uniform(0.3, 1))
    whole = np.concatenate(parts)[: round(seconds * RATE_HZ)]
    return (0.5 * whole / np.abs(whole).max()).astype(np.float32)


def pairs_of(**recordings: np.ndarray) -> list[tuple[str, str]]:
    return [pair[:2] for pair in duplicates({name: fingerprint(x, RATE_HZ) for name, x in recordings.items()})]


def through_mp3(samples: np.ndarray, folder: Path, rate_hz: int = 44_100) -> np.ndarray:
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg")
    there = Waveform(torch.from_numpy(samples)[None], RATE_HZ).resampled(rate_hz)
    soundfile.write(folder / "in.wav", there.samples.numpy().T, rate_hz)
    command = ["ffmpeg", "-y", "-loglevel", "error", "-i", folder / "in.wav", "-b:a", "128k", folder / "out.mp3"]
    subprocess.run(command, check=True)
    return read(folder / "out.mp3").resampled(RATE_HZ).samples[0].numpy()


def test_copies_are_found_among_others(tmp_path: Path) -> None:
    take, trimmed = song(0), song(0)[round(0.37 * RATE_HZ) :]
    recordings = {
        "take": take,
        "other": song(1),
        "louder": 1.9 * take,
        "trimmed": trimmed,
        "noisy": take + np.random.default_rng(0).normal(0, 1e-3, len(take)).astype(np.float32),
        "excerpt": song(0)[round(11.123 * RATE_HZ) : round(17.2 * RATE_HZ)],
        "third": song(2),
        "mp3": through_mp3(0.3 * trimmed, tmp_path),
    }
    copies = ["take", "louder", "trimmed", "noisy", "excerpt", "mp3"]
    expected = [(one, other) for number, one in enumerate(copies) for other in copies[number + 1 :]]
    assert sorted(pairs_of(**recordings)) == sorted(expected)


def test_an_exact_copy_scores_one_and_order_is_the_mappings() -> None:
    prints = {"z": fingerprint(song(0), RATE_HZ), "a": fingerprint(song(0), RATE_HZ)}
    assert duplicates(prints) == [("z", "a", 1.0, 1.0)]
    assert duplicates({}) == duplicates({"a": prints["a"]}) == []


def test_one_common_passage_is_found_in_two_long_recordings() -> None:
    passage = song(5, 8.0)
    assert pairs_of(one=np.concatenate([song(3), passage]), two=np.concatenate([passage, song(4)])) == [("one", "two")]


def test_a_recording_that_repeats_itself_is_no_copy_of_another() -> None:
    assert pairs_of(loop=np.tile(song(5, 8.0), 3), other=song(1)) == []


def test_fingerprints_are_small_repeatable_and_cut_from_any_array(tmp_path: Path) -> None:
    take = song(0)
    take.tofile(tmp_path / "take.f32")
    first = fingerprint(np.memmap(tmp_path / "take.f32", np.float32, "r"), RATE_HZ)
    assert first.dtype == np.uint64
    np.testing.assert_array_equal(first, fingerprint(take, RATE_HZ))
    np.testing.assert_array_equal(first, fingerprint(0.25 * take, RATE_HZ))
    assert 3 * 30 < len(first) < 12 * 30


def test_sounds_without_change_have_no_landmarks_in_common() -> None:
    random = np.random.default_rng(0)
    times_s = np.arange(20 * RATE_HZ) / RATE_HZ
    silence = np.zeros(20 * RATE_HZ, np.float32)
    assert len(fingerprint(silence, RATE_HZ)) == len(fingerprint(silence[:100], RATE_HZ)) == 0
    tones = [(0.3 * np.sin(2 * np.pi * hz * times_s)).astype(np.float32) for hz in (440, 440.2, 880)]
    hum = [(tone + random.normal(0, 1e-4, len(tone))).astype(np.float32) for tone in tones]
    hiss = [random.normal(0, 0.1, len(times_s)).astype(np.float32) for _ in range(2)]
    assert pairs_of(**{str(number): sound for number, sound in enumerate([silence, *tones, *hum, *hiss])}) == []


def test_another_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="at 16000 Hz, not 48000 Hz"):
        fingerprint(song(0), 48_000)


def test_other_takes_of_one_phrase_are_no_copies(shared_data: Path, tmp_path: Path) -> None:
    """One singer sings the same phrase in several techniques; of each we also have a copy, which must be found."""
    paths = sorted((shared_data / "research/gtsinger").glob("*.flac"))
    chosen = [path for path in paths if path.name.startswith(("EN-Alto-2", "ge04"))]
    prints, copies = {}, []
    for path in chosen:
        take = read(path).resampled(RATE_HZ).samples.mean(dim=0).numpy()
        prints[path.stem] = fingerprint(take, RATE_HZ)
        if "Control" in path.name and len(take) > 8 * RATE_HZ:
            copies.append((path.stem, f"{path.stem} copy"))
            prints[copies[-1][1]] = fingerprint(through_mp3(0.4 * take[RATE_HZ : 8 * RATE_HZ], tmp_path), RATE_HZ)
    assert len(copies) >= 3
    assert sorted(pair[:2] for pair in duplicates(prints)) == sorted(copies)
