"""Time stamps: written by one program, read by another."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio.bwf import BEXT, TimeStamp, read_time_stamp
from audio.errors import InputError
from audio.io import read_tags, write
from audio.waveform import Waveform

STAMP = TimeStamp(172_800_123, 48_000, "2026-11-26", "01:00:00")


def needs(*programs: str) -> None:
    for name in programs:
        if shutil.which(name) is None:
            pytest.skip(f"needs {name}")


def by_ffprobe(path: Path) -> dict[str, str]:
    line = [
        "ffprobe",
        "-v",
        "error",
        "-show_entries",
        "format_tags:stream=sample_rate,duration_ts",
        "-of",
        "json",
        path,
    ]
    told = json.loads(subprocess.run(line, capture_output=True, check=True).stdout)
    return told["format"].get("tags", {}) | told["streams"][0]


def noise(samples: int, channels: int = 2) -> Waveform:
    return Waveform(0.1 * torch.randn(channels, samples, generator=torch.Generator().manual_seed(1)), 48_000)


@pytest.mark.parametrize("samples", [1, 4801, 400_001])  # an odd byte count, and more than one block of moving
@pytest.mark.parametrize("channels", [1, 2])
def test_other_programs_read_the_time_and_the_same_sound(tmp_path: Path, samples: int, channels: int) -> None:
    needs("ffprobe", "sox")
    sound = noise(samples, channels)
    write(tmp_path / "plain.wav", sound, tags={"seed": "3"})
    write(tmp_path / "timed.wav", sound, tags={"seed": "3"}, stamp=STAMP)
    told = by_ffprobe(tmp_path / "timed.wav")
    assert (told["time_reference"], told["date"], told["creation_time"]) == ("172800123", "2026-11-26", "01:00:00")
    assert told["duration_ts"] == samples and "time_reference" not in by_ffprobe(tmp_path / "plain.wav")
    plain, timed = (soundfile.read(tmp_path / name)[0] for name in ("plain.wav", "timed.wav"))
    np.testing.assert_array_equal(timed, plain)
    raw = ["-t", "raw", "-"]
    heard = [
        subprocess.run(["sox", tmp_path / name, *raw], capture_output=True, check=True).stdout
        for name in ("plain.wav", "timed.wav")
    ]
    assert heard[0] == heard[1] and len(heard[0]) == samples * channels * 3
    assert read_tags(tmp_path / "timed.wav") == {"seed": "3"}
    assert read_time_stamp(tmp_path / "timed.wav") == STAMP and read_time_stamp(tmp_path / "plain.wav") is None


def by_ffmpeg(path: Path, *options: str) -> Path:
    """A take as another program writes it: 44.1 kHz, with a time stamp of its own."""
    source = ["-f", "lavfi", "-i", "anoisesrc=duration=0.5:sample_rate=44100:amplitude=0.2:seed=1"]
    line = [
        "ffmpeg",
        "-v",
        "error",
        *source,
        "-metadata",
        "time_reference=39690000",
        "-write_bext",
        "1",
        *options,
        path,
    ]
    subprocess.run(line, check=True)
    return path


@pytest.mark.parametrize("options", [[], ["-rf64", "always"]])
def test_a_time_that_ffmpeg_wrote_is_read_and_kept_at_another_rate(tmp_path: Path, options: list[str]) -> None:
    needs("ffmpeg")
    stamp = read_time_stamp(by_ffmpeg(tmp_path / "take.wav", *options))
    assert stamp is not None and (stamp.samples, stamp.sample_rate) == (39_690_000, 44_100)  # 15 minutes
    assert stamp.at(48_000).samples == 43_200_000 and stamp.at(96_000).at(44_100) == stamp
    assert TimeStamp(1, 44_100).at(48_000).samples == 1 and TimeStamp(100, 44_100).at(48_000).samples == 109


def test_what_is_no_time_stamp_is_none(tmp_path: Path) -> None:
    for name in ("a.wav", "b.flac", "c.aiff"):
        soundfile.write(tmp_path / name, np.zeros(4800), 48_000)
        assert read_time_stamp(tmp_path / name) is None
    write(tmp_path / "timed.wav", noise(4800), tags={}, stamp=STAMP)
    whole = (tmp_path / "timed.wav").read_bytes()
    late = bytearray(whole)
    struct.pack_into("<Q", late, whole.index(b"bext") + 8 + 338, 2**63)
    for content in (late, whole[:100], b"RIFF", b"", whole[:12] + b"bext\xff\xff\xff\xff" + whole[20:]):
        (tmp_path / "odd.wav").write_bytes(content)
        assert read_time_stamp(tmp_path / "odd.wav") is None
    with pytest.raises(InputError, match=r"none\.wav: cannot be read"):
        read_time_stamp(tmp_path / "none.wav")
    with pytest.raises(ValueError, match="a RIFF WAVE file"):
        write(tmp_path / "x.flac", noise(4800), tags={}, stamp=STAMP)
    assert not (tmp_path / "x.flac").exists()


@pytest.mark.parametrize("samples", [2**63 - 200, 2**63 - 1, 2**64 - 1])
def test_a_size_that_no_file_has_ends_the_search(tmp_path: Path, samples: int) -> None:
    (tmp_path / "odd.wav").write_bytes(rf64(samples) + bytes(4800))
    assert read_time_stamp(tmp_path / "odd.wav") is None


def test_a_time_stamp_behind_five_gibibytes_of_sound_is_found(tmp_path: Path) -> None:
    write(tmp_path / "timed.wav", noise(4800), tags={}, stamp=STAMP)
    whole = (tmp_path / "timed.wav").read_bytes()
    begins, data_bytes = whole.index(b"bext"), 5 * 2**30 + 1  # odd: a byte of padding follows
    with (tmp_path / "long.wav").open("wb") as file:  # sparse
        file.write(rf64(data_bytes))
        file.seek(data_bytes + 1, os.SEEK_CUR)
        file.write(whole[begins : begins + 8 + BEXT.size])
    assert read_time_stamp(tmp_path / "long.wav") == STAMP


def rf64(data_bytes: int) -> bytes:
    """EBU Tech 3306, up to the sound: mono, 24 bits, 48 kHz."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 48_000, 144_000, 3, 24)
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, 0, data_bytes, 0, 0)
    return b"RF64\xff\xff\xff\xffWAVE" + sizes + form + b"data\xff\xff\xff\xff"
