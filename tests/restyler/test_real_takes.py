"""`sample.py` with the bundled model on takes of real singers, as a user types it."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio.features import measure
from audio.io import read
from audio.loudness import integrated_loudness_lufs, true_peak_db
from audio.waveform import Waveform
from restyler.sample import main

RATE = 48_000
TAKES, VARIATIONS = 5, 4
BLOCK = RATE // 100  # 10 ms


@pytest.fixture(scope="module")
def takes(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The loudest 5 s each of five takes from all over a set that no training saw, at their own rate."""
    found = sorted((shared_data / "research" / "gtsinger").rglob("*.flac"))
    if len(found) < TAKES:
        pytest.skip("needs the takes of research/gtsinger")
    folder = tmp_path_factory.mktemp("takes")
    cut = []
    for number in range(TAKES):
        samples, rate = soundfile.read(found[number * len(found) // TAKES], dtype="float32", always_2d=True)
        energy = np.cumsum(np.square(samples).sum(axis=1))
        length = min(5 * rate, len(samples))
        first = int(np.argmax(energy[length - 1 :] - np.concatenate([[0], energy[:-length]])))
        cut.append(folder / f"take_{number}.wav")
        soundfile.write(cut[-1], samples[first : first + length], rate, subtype="PCM_24")
    return cut


@pytest.fixture(scope="module")
def said(takes: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    """Mixes by the command, each with the line printed about it."""
    out = tmp_path_factory.mktemp("out")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main([*map(str, takes), "--out", str(out), "--variations", str(VARIATIONS), "--device", "cpu"]) == 0
    return {Path(line.partition("  ")[0]): line for line in printed.getvalue().splitlines()}


def of_take(said: dict[Path, str], take: Path) -> list[Path]:
    return sorted(path for path in said if path.parent.name == take.stem)


def level(waveform: Waveform) -> np.ndarray:
    """Energy of 10 ms blocks."""
    samples = waveform.resampled(RATE).stereo().samples.double().square().mean(0)
    return samples[: len(samples) // BLOCK * BLOCK].reshape(-1, BLOCK).mean(1).numpy()


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])


def lag_blocks(one: np.ndarray, other: np.ndarray) -> int:
    """By how many blocks `other` comes later than `one`, within ±20."""
    inner = slice(20, len(one) - 20)
    return max(range(-20, 21), key=lambda lag: correlation(one[inner], np.roll(other, -lag)[inner]))


def test_every_take_gets_all_its_mixes_in_the_promised_form(takes: list[Path], said: dict[Path, str]) -> None:
    for take in takes:
        info = soundfile.info(take)
        files = of_take(said, take)
        assert [file.name for file in files] == [f"mix_{number:02d}.wav" for number in range(VARIATIONS)]
        for file in files:
            mix = soundfile.info(file)
            assert (mix.samplerate, mix.channels, mix.subtype) == (RATE, 2, "PCM_24")
            assert mix.frames == -(-info.frames * RATE // info.samplerate)


def test_every_mix_is_as_loud_as_its_take_or_says_why_not(takes: list[Path], said: dict[Path, str]) -> None:
    for take in takes:
        wanted_lufs = integrated_loudness_lufs(read(take))
        for file in of_take(said, take):
            mix = read(file)
            assert true_peak_db(mix) <= -1.0
            if "quieter than wanted" in said[file]:
                assert integrated_loudness_lufs(mix) < wanted_lufs
            else:
                assert integrated_loudness_lufs(mix) == pytest.approx(wanted_lufs, abs=0.2)


def test_the_singing_stays_and_stays_in_time(takes: list[Path], said: dict[Path, str]) -> None:
    for take in takes:
        sung = np.sqrt(level(read(take)))
        for file in of_take(said, take):
            mixed = np.sqrt(level(read(file)))
            assert correlation(sung, mixed) > 0.7, said[file]
            assert abs(lag_blocks(sung, mixed)) <= 1, said[file]


def test_the_mixes_of_a_take_differ_in_what_can_be_heard(takes: list[Path], said: dict[Path, str]) -> None:
    for take in takes:
        measured = [measure(read(file)) for file in of_take(said, take)]
        spans_db = {name: max(m[name] for m in measured) - min(m[name] for m in measured) for name in measured[0]}
        assert max(spans_db.values()) > 1.0, spans_db
