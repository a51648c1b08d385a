"""Reading and writing of good files: every format, tags, and files that appear whole or not at all."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audio import InputError, Waveform
from audio.io import (
    duration_s,
    make_folder,
    read,
    read_stretch,
    read_tags,
    require_signal,
    write,
    write_bytes_atomic,
    write_text_atomic,
)

RATE_HZ = 48_000
FORMATS = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("WAVEX", "PCM_24"), ("RF64", "PCM_24"),
    ("W64", "PCM_24"), ("AIFF", "PCM_24"), ("AU", "PCM_16"), ("CAF", "PCM_24"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"),
    ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip


def noise(seconds: float = 0.5, channels: int = 2, seed: int = 0) -> np.ndarray:
    """[samples channels], about −20 dBFS."""
    return 0.1 * np.random.default_rng(seed).uniform(-1, 1, (round(seconds * RATE_HZ), channels)).astype(np.float32)


def waveform(samples: np.ndarray) -> Waveform:
    return Waveform(torch.from_numpy(samples.T.copy()), RATE_HZ)


@pytest.mark.parametrize(("container", "subtype"), FORMATS)
@pytest.mark.parametrize("suffix", [".wav", ".raw", ""])
def test_every_format_is_read_by_its_content(tmp_path: Path, container: str, subtype: str, suffix: str) -> None:
    path = tmp_path / f"take{suffix}"
    soundfile.write(path, noise(), RATE_HZ, format=container, subtype=subtype)
    renamed = shutil.copy(path, tmp_path / "oracle.bin")
    expected, rate = soundfile.read(renamed, dtype="float32", always_2d=True)
    heard = read(path)
    assert heard.sample_rate == rate == RATE_HZ
    assert heard.samples.dtype == torch.float32
    np.testing.assert_array_equal(heard.samples.T.numpy(), expected)
    if subtype not in ("VORBIS", "OPUS", "MPEG_LAYER_III"):
        np.testing.assert_allclose(expected, noise(), atol=2**-15)


def test_long_files_are_read_whole_and_in_order(tmp_path: Path) -> None:
    ramp = np.linspace(-0.9, 0.9, 700_001, dtype=np.float32)[:, None]
    soundfile.write(tmp_path / "ramp.wav", ramp, 44_100, subtype="FLOAT")
    np.testing.assert_array_equal(read(tmp_path / "ramp.wav").samples[0].numpy(), ramp[:, 0])


@pytest.mark.parametrize(("container", "subtype"), FORMATS)
def test_a_stretch_is_that_part_of_the_whole_file(tmp_path: Path, container: str, subtype: str) -> None:
    path = tmp_path / "take"
    soundfile.write(path, noise(2.0), RATE_HZ, format=container, subtype=subtype)
    whole = read(path).samples
    for start_s, stop_s in ((0.0, 0.5), (0.73, 1.11), (1.5, 99.0)):
        expected = whole[:, round(start_s * RATE_HZ) : round(stop_s * RATE_HZ)]
        torch.testing.assert_close(read_stretch(path, start_s, stop_s).samples, expected, rtol=0, atol=0)
    assert duration_s(path) == whole.shape[1] / RATE_HZ


def test_a_stretch_needs_no_more_memory_than_itself(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(40 * RATE_HZ, np.float32), RATE_HZ)  # 8 MB as float32
    tracemalloc.start()
    try:
        assert read_stretch(tmp_path / "long.wav", 30.0, 30.5).duration_s == 0.5
        assert duration_s(tmp_path / "long.wav") == 40.0
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_floating_point_peaks_over_full_scale_are_kept(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hot.wav", noise() * 30, RATE_HZ, subtype="FLOAT")
    np.testing.assert_array_equal(read(tmp_path / "hot.wav").samples.T.numpy(), noise() * 30)


def _pipe(command: list[str], **kwargs: bytes) -> bytes:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    return subprocess.run(command, check=True, capture_output=True, **kwargs).stdout


@pytest.mark.parametrize("container", ["wav", "aiff", "au", "w64"])
def test_streamed_files_of_unknown_length_are_read_to_their_end(tmp_path: Path, container: str) -> None:
    source = tmp_path / "source.wav"
    soundfile.write(source, noise(), RATE_HZ, subtype="PCM_16")
    streamed = tmp_path / f"streamed.{container}"
    streamed.write_bytes(_pipe(["ffmpeg", "-loglevel", "error", "-i", str(source), "-f", container, "-"]))
    torch.testing.assert_close(read(streamed).samples, read(source).samples, rtol=0, atol=0)


def test_wav_streamed_by_sox_is_read_to_its_end(tmp_path: Path) -> None:
    samples = (noise() * 32767).astype("<i2")
    raw = ["sox", "-t", "raw", "-r", str(RATE_HZ), "-e", "signed", "-b", "16", "-c", "2", "-"]
    streamed = tmp_path / "streamed.wav"
    streamed.write_bytes(_pipe([*raw, "-t", "wav", "-"], input=samples.tobytes()))
    np.testing.assert_array_equal(read(streamed).samples.T.numpy() * 32768, samples)


def test_an_mp3_without_a_length_is_read_to_its_end(tmp_path: Path) -> None:
    """libsndfile then only estimates the number of samples, so that estimate is no promise."""
    soundfile.write(tmp_path / "source.wav", noise(2.0), RATE_HZ)
    command = ["ffmpeg", "-loglevel", "error", "-i", str(tmp_path / "source.wav"), "-b:a", "128k", "-write_xing", "0"]
    (tmp_path / "take.mp3").write_bytes(_pipe([*command, "-f", "mp3", "-"]))
    with soundfile.SoundFile(tmp_path / "take.mp3") as file:
        estimate = file.frames
    assert 2 * RATE_HZ <= read(tmp_path / "take.mp3").samples.shape[1] < estimate


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_written_is_read_back_to_24_bits(tmp_path: Path, suffix: str, channels: int) -> None:
    samples = noise(channels=channels)
    samples[:2] = [[1.0], [-1.0]]
    original = waveform(samples)
    write(tmp_path / f"mix{suffix}", original, tags={})
    assert soundfile.info(tmp_path / f"mix{suffix}").subtype == "PCM_24"
    heard = read(tmp_path / f"mix{suffix}")
    assert heard.sample_rate == RATE_HZ
    assert float((heard.samples - original.samples).abs().max()) <= 1.5 * 2**-23


def test_the_same_waveform_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        write(tmp_path / name, waveform(noise()), tags={"seed": "1"})
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


@pytest.mark.parametrize("value", [1.0 + 1e-6, -1.5, np.nan, np.inf])
def test_samples_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path: Path, value: float) -> None:
    samples = noise()
    samples[100, 1] = value
    with pytest.raises(ValueError, match=r"within ±1\.0"):
        write(tmp_path / "mix.wav", waveform(samples), tags={})
    assert list(tmp_path.iterdir()) == []


def test_other_suffixes_and_empty_waveforms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="suffix"):
        write(tmp_path / "mix.mp3", waveform(noise()), tags={})
    with pytest.raises(ValueError, match="samples"):
        write(tmp_path / "mix.wav", Waveform(torch.zeros(2, 0), RATE_HZ), tags={})


TAGS = {"model": "pocket-1", "seed": "7", "settings": '{"steps": 10, "note": "naïve \\"Ω\\" 声"}'}


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_ffprobe_reads_the_tags(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mix{suffix}"
    write(path, waveform(noise()), tags=TAGS)
    shown = json.loads(_pipe(["ffprobe", "-v", "error", "-show_entries", "format_tags", "-of", "json", str(path)]))
    found = {key.lower(): value for key, value in shown["format"]["tags"].items()}
    assert json.loads(found["comment"]) == TAGS
    assert any(value.startswith("vocal-restyler") for value in found.values())


@settings(max_examples=10, deadline=None)
@given(tags=st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=5))
def test_any_tags_come_back(tmp_path_factory: pytest.TempPathFactory, tags: dict[str, str]) -> None:
    for suffix in (".wav", ".flac"):
        path = tmp_path_factory.mktemp("tags") / f"mix{suffix}"
        write(path, waveform(noise(0.01)), tags=tags)
        assert read_tags(path) == tags


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_tags_come_back_up_to_the_limit_and_are_refused_beyond(tmp_path: Path, suffix: str) -> None:
    longest = {"settings": "x" * (2000 - len('{"settings":""}'))}
    write(tmp_path / f"mix{suffix}", waveform(noise()), tags=longest)
    assert read_tags(tmp_path / f"mix{suffix}") == longest
    with pytest.raises(ValueError, match="2001 bytes"):
        write(tmp_path / f"mix{suffix}", waveform(noise()), tags={"settings": longest["settings"] + "x"})


@pytest.mark.parametrize("comment", [None, "nice take", "[1, 2]", '{"seed": 1}'])
def test_files_of_others_have_no_tags(tmp_path: Path, comment: str | None) -> None:
    path = tmp_path / "theirs.wav"
    with soundfile.SoundFile(path, "w", RATE_HZ, 1) as file:
        if comment is not None:
            file.comment = comment
        file.write(noise(channels=1))
    with pytest.raises(InputError, match=r"theirs\.wav: carries no tags"):
        read_tags(path)


def test_silence_is_read_but_does_not_count_as_signal(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros((RATE_HZ, 2)), RATE_HZ)
    silence = read(tmp_path / "silence.wav")
    with pytest.raises(InputError, match=r"silence\.wav: silent"):
        require_signal(silence, tmp_path / "silence.wav")
    click = torch.zeros(2, RATE_HZ)
    click[1, 5] = 10 ** (-91 / 20)
    with pytest.raises(InputError, match="take: silent"):
        require_signal(Waveform(click, RATE_HZ), "take")
    click[1, 5] = -(10 ** (-89 / 20))
    require_signal(Waveform(click, RATE_HZ), "take")


def test_replacing_a_file_keeps_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_bytes(b"")
    write_text_atomic(tmp_path / "report.json", "{}")
    write_text_atomic(tmp_path / "report.json", "ä")
    assert (tmp_path / "report.json").read_bytes() == "ä".encode()
    assert (tmp_path / "report.json").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_is_an_input_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    """The disk is full for a process that may not write files of more than 50 kB."""
    target = tmp_path / "mix.wav"
    write(target, waveform(noise(0.1)), tags={"seed": "old"})
    before = target.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"mix\.wav: cannot be written: File too large"):
            write(target, waveform(noise(10)), tags={"seed": "new"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_readers_and_a_killed_writer_only_ever_leave_whole_files(tmp_path: Path) -> None:
    target = tmp_path / "state"
    versions = {letter * 3_000_000 for letter in (b"a", b"b")}
    writer = os.fork()
    if writer == 0:
        try:
            for letter in itertools.cycle([b"a", b"b"]):
                write_bytes_atomic(target, letter * 3_000_000)
        finally:
            os._exit(1)
    try:
        deadline = time.monotonic() + 60
        seen = set()
        while len(seen) < 2:
            assert time.monotonic() < deadline
            if target.exists():
                content = target.read_bytes()
                assert content in versions
                seen.add(content[:1])
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    assert target.read_bytes() in versions


def test_unwritable_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"nowhere/mix\.wav: cannot be written: No such file or directory"):
        write(tmp_path / "nowhere" / "mix.wav", waveform(noise()), tags={})
    with pytest.raises(InputError, match=r"file/report\.html: cannot be written: Not a directory"):
        write_text_atomic(tmp_path / "file" / "report.html", "")
    with pytest.raises(InputError, match="file: no folder can be made here: File exists"):
        make_folder(tmp_path / "file")
    with pytest.raises(InputError, match="file/out: no folder can be made here: Not a directory"):
        make_folder(tmp_path / "file" / "out")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder: cannot be written: Is a directory"):
        write_bytes_atomic(tmp_path / "folder", b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_folders_are_made_with_their_parents_and_kept(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "out" / "demo")
    (folder / "old").write_text("kept")
    assert make_folder(str(folder)) == folder
    assert (folder / "old").read_text() == "kept"
