"""Damaged files among good ones: each is told with its reason, none is lost, none stops the others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from audio.waveform import Waveform
from restyler.prepare.command import main
from restyler.sing import random_take

Mix = Callable[..., np.ndarray]
RATE_HZ = 48_000
PREPARE = """
import re, sys
from pathlib import Path
from restyler.prepare.command import main
code = main(sys.argv[1:])
# Not ru_maxrss, which begins with that of the process that started this one.
print("peak", re.search(r"VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text()).group(1))
sys.exit(code)
"""


def prepare(folder: Path) -> None:
    assert main(arguments(folder)) == 0


def prepare_in_a_process(folder: Path) -> float:
    """The peak memory in MiB."""
    command = [sys.executable, "-c", PREPARE, *arguments(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    return int(done.stdout.rpartition("peak ")[2]) / 1024


def arguments(folder: Path) -> list[str]:
    folders = [word for side in ("raw", "mix", "out") for word in (f"--{side}", str(folder / side))]
    return [*folders, "--workers", "1"]


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "out/report.json").read_text())
    return content


def write_pairs(folder: Path, count: int, seconds: float, mixed: Mix) -> list[Path]:
    """So many pairs of different passages of a few voices; all their files."""
    per_voice = 100
    files = []
    for voice in range(-(-count // per_voice)):
        number = min(per_voice, count - voice * per_voice)
        whole = random_take(number * seconds, sample_rate=RATE_HZ, generator=np.random.default_rng([5, voice]))
        raw = 0.5 * whole.samples[0].numpy() / float(whole.samples.abs().max())
        mix = mixed(raw, RATE_HZ, seed=voice)
        for passage in range(number):
            span = slice(round(passage * seconds * RATE_HZ), round((passage + 1) * seconds * RATE_HZ))
            for side, samples in (("raw", raw[span]), ("mix", mix[:, span].T)):
                path = folder / side / f"voice{voice}" / f"passage{passage:03d}_{side}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, samples, RATE_HZ, "PCM_16")
                files.append(path)
    return files


def damage(path: Path, kind: int) -> None:
    data = path.read_bytes()
    match kind % 6:
        case 0:
            path.write_bytes(b"")
        case 1:
            path.write_bytes(data[: len(data) // 2])
        case 2:
            path.write_bytes(np.random.default_rng(0).bytes(5000))
        case 3:
            soundfile.write(path, np.full((9000, 1), np.nan), RATE_HZ, "FLOAT", format="WAV")
        case 4:
            soundfile.write(path, np.zeros((9000, 6)), RATE_HZ, format="WAV")
        case 5:
            path.unlink()
            path.symlink_to(path.with_name("gone.wav"))


def check(folder: Path, count: int, seconds: float, mixed: Mix, prepare: Callable[[Path], object]) -> None:
    """Every twentieth file is damaged."""
    files = write_pairs(folder, count, seconds, mixed)
    spoilt = files[3::20]
    for number, path in enumerate(spoilt):
        damage(path, number)
    prepare(folder)
    told = report(folder)
    fates = {Path(file["path"]): file for file in told["files"]}
    assert set(fates) == set(files)
    assert {path for path, file in fates.items() if file["fate"] == "unreadable"} == set(spoilt)
    assert all(path.name in fates[path]["reason"] for path in spoilt)
    unreadable = {pair["key"] for pair in told["pairs"] if {"unreadable_raw", "unreadable_mix"} & set(pair["faults"])}
    assert len(unreadable) == len({(path.parent.name, path.name[:10]) for path in spoilt})
    used = sum(pair["status"] != "rejected" for pair in told["pairs"])
    assert used > 0.9 * (count - len(spoilt))


@pytest.mark.usefixtures("fresh_accelerator")
def test_every_damaged_file_is_told_and_none_is_lost(
    tmp_path: Path, mixed: Mix, capfd: pytest.CaptureFixture[str]
) -> None:
    check(tmp_path, 24, 2.5, mixed, prepare)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_two_thousand_files_in_the_memory_of_two_hundred(tmp_path: Path, mixed: Mix) -> None:
    peaks: list[float] = []
    for count in (100, 1000):
        check(tmp_path / str(count), count, 2.5, mixed, lambda folder: peaks.append(prepare_in_a_process(folder)))
    assert peaks[1] - peaks[0] < 60


@pytest.mark.slow
def test_an_hour_takes_the_memory_of_some_minutes(tmp_path: Path, mixed: Mix) -> None:
    peaks = []
    whole = random_take(240.0, sample_rate=RATE_HZ, generator=np.random.default_rng(9))
    raw = 0.4 * whole.samples[0].numpy() / float(whole.samples.abs().max())
    mix = mixed(raw, RATE_HZ, seed=1)[:, : len(raw)]
    for repeats in (1, 15):
        folder = tmp_path / str(repeats)
        for side, samples in (("raw", raw), ("mix", mix.T)):
            (folder / side).mkdir(parents=True)
            channels = 1 if side == "raw" else 2
            with soundfile.SoundFile(folder / side / "long.flac", "w", RATE_HZ, channels, "PCM_24") as sink:
                for number in range(repeats):  # at another speed each time, or the hour would be one tune 15 times
                    block = torch.from_numpy(np.ascontiguousarray(np.atleast_2d(samples.T), np.float32))
                    sink.write(Waveform(block, 48_000 + 480 * number).resampled(48_000).samples.numpy().T)
        peaks.append(prepare_in_a_process(folder))
        (pair,) = report(folder)["pairs"]
        assert pair["seconds"] > 0.6 * repeats * len(raw) / RATE_HZ
    assert peaks[1] - peaks[0] < 300
