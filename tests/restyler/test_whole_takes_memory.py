"""Memory of a whole call does not grow with its take: real processes, by the kernel's own count."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from audio.on_disk import kept_in
from audio.waveform import Waveform
from codec.pocket import PocketCodec
from restyler.bench_long import Ran, main, picture, table
from restyler.noise import Walk, noise
from restyler.pipeline import VocalRestylePipeline

RATE = 48_000
ONE_COPY_MIB_A_MINUTE = 60 * RATE * 4 / 2**20  # of a mono take
MOST_MIB_A_MINUTE = 10.0  # under one such copy

# Of glibc: one heap for all threads, and large blocks given back at once. What it keeps of freed memory otherwise, by
# which thread came when, moves a peak by more than a minute of a take does.
FRUGAL = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "1048576"}

PEAKS = """
import sys
from pathlib import Path
from restyler.sample import main

for take in sys.argv[2:]:
    Path("/proc/self/clear_refs").write_text("5")  # the kernel counts the peak anew
    call = [take, "--model", sys.argv[1], "--out", str(Path(take).parent / "out"), "--overwrite", "--variations", "1"]
    assert main([*call, "--device", "cpu", "--render", "codec", "--guard", "off", "--strength", "0.9"]) == 0
    (highest,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    print("peak", int(highest.split()[1]) / 1024)
"""


def test_a_minute_more_takes_less_memory_than_a_copy_of_it(
    build_pipeline: Callable[..., VocalRestylePipeline], tmp_path: Path
) -> None:
    """Noise through what a mix goes through, but for guards and residual, which take seconds a minute, with a model
    that takes none; one process, whose first call is to fill what Python keeps."""
    torch.manual_seed(0)
    codec = PocketCodec(latent_dim=8, width=16, encoder_blocks=1, decoder_blocks=1)
    build_pipeline(codec).save_pretrained(tmp_path / "model")
    short_s, long_s = 30, 180
    noise = 0.1 * np.random.default_rng(0).standard_normal(long_s * RATE).clip(-5, 5)
    takes = {seconds: tmp_path / f"{seconds}.wav" for seconds in (short_s, long_s)}
    for seconds, take in takes.items():
        soundfile.write(take, noise[: seconds * RATE], RATE)
    arguments = [str(tmp_path / "model"), *(str(takes[seconds]) for seconds in (short_s, short_s, long_s))]
    command = [sys.executable, "-c", PEAKS, *arguments]
    ran = subprocess.run(command, env=os.environ | FRUGAL, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    _, short, long = (float(line.split()[1]) for line in ran.stdout.splitlines() if line.startswith("peak "))
    assert MOST_MIB_A_MINUTE < ONE_COPY_MIB_A_MINUTE
    assert (long - short) / ((long_s - short_s) / 60) < MOST_MIB_A_MINUTE


def test_a_mix_made_on_disk_is_the_one_made_in_memory(
    pipeline: VocalRestylePipeline, take: Waveform, tmp_path: Path
) -> None:
    """Bit by bit, of two seeds at once in several windows and steps, and the noise of a walk with a tail."""
    options: dict[str, Any] = {"seeds": [1, 2], "steps": 2, "style": "warm plate"}
    in_memory, walked = pipeline(take, **options), noise(Walk(3, ((4, 0.5),)), (3, 2_500), 40)
    with kept_in(tmp_path):
        assert torch.equal(pipeline(take, **options), in_memory)
        assert torch.equal(noise(Walk(3, ((4, 0.5),)), (3, 2_500), 40), walked)


def test_a_disk_too_full_for_the_work_is_one_line_and_no_file(
    sample: Callable[..., int], vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Full for a process that may not write files of more than 50 kB: a take of .6 s needs 115 kB."""
    take, limits = vocal_file("take.wav"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        assert sample(take) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "of temporary files: File too large" in line
    assert list(tmp_path.iterdir()) == [take]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_of_whole_takes_is_flat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundled model, guards and all; four minutes against one, each with the curve of its memory."""
    assert main(["--minutes", "1", "4", "--out", str(tmp_path)]) == 0
    *_, row, _ = capsys.readouterr().out.splitlines()
    assert row.split()[0] == "4" and float(row.split()[-1]) < MOST_MIB_A_MINUTE
    points = np.genfromtxt(tmp_path / "memory.csv", delimiter=",", names=True)
    assert set(points["minutes"]) == {1.0, 4.0} and (points["MiB"] > 100).any()
    assert (tmp_path / "memory.svg").read_text().count("<svg") == 1


def test_the_table_tells_growth_by_the_minute() -> None:
    ran = [
        Ran(1.0, 30.0, 40.0, ((0.0, 500.0), (30.0, 900.0)), 1000.0, ""),
        Ran(3.0, 90.0, 1.0, ((0.0, 1.0),), 1200.0, ""),
    ]
    first, second = table(ran, 2, "codec")[2:]
    assert first.split() == ["1", "30.0", "4.00", "40", "1000"]
    assert second.split() == ["3", "90.0", "4.00", "1", "1200", "100.0"]
    assert "<svg" in picture(ran)
