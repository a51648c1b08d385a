"""Bad files: each is refused with one line that names it, and nothing but InputError ever comes out."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audio import InputError
from audio.io import duration_s, read, read_stretch, read_tags, write_bytes_atomic

RATE_HZ = 48_000
SECONDS = 0.5


def noise(channels: int = 2, seconds: float = SECONDS) -> np.ndarray:
    shape = (round(seconds * RATE_HZ), channels)
    return 0.1 * np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def with_bad_sample(value: float) -> np.ndarray:
    samples = noise()
    samples[12_345, 1] = value
    return samples


@cache
def saved(container: str, subtype: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "take"
        soundfile.write(path, noise(), RATE_HZ, format=container, subtype=subtype)
        return path.read_bytes()


def data_size_changed(riff_size: int | None, data_size: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        content = bytearray(saved("WAV", "PCM_16"))
        if riff_size is not None:
            content[4:8] = struct.pack("<I", riff_size)
        at = content.index(b"data") + 4
        content[at : at + 4] = struct.pack("<I", data_size)
        path.write_bytes(content)

    return make


def streamed_flac(path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg")
    source = path.with_name("source.wav")
    soundfile.write(source, noise(), RATE_HZ)
    piped = subprocess.run(
        ["ffmpeg", "-loglevel", "error", "-i", source, "-f", "flac", "-"], check=True, capture_output=True
    )
    path.write_bytes(piped.stdout)


def damaged_flac(path: Path) -> None:
    content = bytearray(saved("FLAC", "PCM_24"))
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "cannot be read: No such file or directory"),
    "below a file": (lambda path: path.parent.touch(), "cannot be read: Not a directory"),
    "folder": (Path.mkdir, "not a file"),
    "pipe": (os.mkfifo, "not a file"),
    "link to nothing": (lambda path: path.symlink_to("nothing"), "cannot be read: No such file"),
    "empty": (Path.touch, r"empty \(0 bytes\)"),
    "one byte": (lambda path: path.write_bytes(b"R"), "not audio"),
    "text": (lambda path: path.write_text("la la la\n" * 1000), "not audio"),
    "zeros": (lambda path: path.write_bytes(bytes(100_000)), "not audio"),
    "header alone": (lambda path: path.write_bytes(saved("WAV", "PCM_16")[:44]), "truncated"),
    "half a header": (lambda path: path.write_bytes(saved("WAV", "PCM_16")[:30]), "damaged or truncated"),
    "damaged FLAC": (damaged_flac, "damaged or truncated"),
    "no samples": (lambda path: soundfile.write(path, noise()[:0], RATE_HZ), "0 samples by its header"),
    "never closed, sizes 0": (data_size_changed(0, 0), "0 samples by its header"),
    "never closed, data size 0": (data_size_changed(None, 0), "0 samples by its header"),
    "streamed FLAC": (streamed_flac, "states no length"),
    "NaN": (lambda path: soundfile.write(path, with_bad_sample(np.nan), RATE_HZ, subtype="FLOAT"), "NaN or infinite"),
    "infinity": (lambda path: soundfile.write(path, with_bad_sample(-np.inf), RATE_HZ, subtype="FLOAT"), "NaN or inf"),
    "unscaled": (
        lambda path: soundfile.write(path, noise() * 32768, RATE_HZ, subtype="FLOAT"),
        r"peaks at \+70 dBFS; samples must be scaled to ±1\.0",
    ),
    "8 channels": (lambda path: soundfile.write(path, noise(8), RATE_HZ), "8 channels; 1 or 2 allowed"),
    "1 Hz": (lambda path: soundfile.write(path, noise(), 1), "a sample rate of 1 Hz; 8000 to 384000 Hz allowed"),
    "1 MHz": (lambda path: soundfile.write(path, noise(), 1_000_000), "a sample rate of 1000000 Hz"),
    "50 ms": (lambda path: soundfile.write(path, noise(2, 0.05), RATE_HZ), r"0\.050 s long; at least 0\.1 s needed"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    make, complaint = BAD_FILES[kind]
    path = tmp_path / "takes" / "take.wav"
    if kind != "below a file":
        path.parent.mkdir()
    make(path)
    for reader in (read, duration_s):
        with pytest.raises(InputError, match=complaint) as caught:
            reader(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_what_is_wrong_within_a_stretch_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "take.wav", with_bad_sample(np.nan), RATE_HZ, subtype="FLOAT")
    with pytest.raises(InputError, match=r"take\.wav: contains NaN"):
        read_stretch(tmp_path / "take.wav", 0.2, 0.3)
    assert read_stretch(tmp_path / "take.wav", 0.3, 0.4).duration_s == pytest.approx(0.1)
    soundfile.write(tmp_path / "many.wav", noise(8), RATE_HZ)
    with pytest.raises(InputError, match="8 channels"):
        read_stretch(tmp_path / "many.wav", 0.0, 0.1)


@pytest.mark.parametrize("rate_hz", [8_000, 384_000])
def test_the_outermost_rates_are_read(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "take.wav", noise(1, 1.0), rate_hz)
    assert read(tmp_path / "take.wav").sample_rate == rate_hz


def test_a_name_of_several_lines_is_still_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path / "two\nlines\x1b[31m.wav")
    assert str(caught.value).isprintable()


CONTAINERS = [
    ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("RF64", "PCM_24"), ("W64", "PCM_24"), ("AIFF", "PCM_24"), ("AU", "PCM_24"),
    ("CAF", "PCM_24"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
    ("NIST", "PCM_24"), ("AVR", "PCM_16"),
]  # fmt: skip


@pytest.mark.parametrize(("container", "subtype"), CONTAINERS)
@settings(max_examples=15, deadline=None)
@given(kept=st.floats(0.001, 0.98))
def test_a_file_cut_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, container: str, subtype: str, kept: float
) -> None:
    whole = saved(container, subtype)
    path = tmp_path_factory.mktemp("cut") / "take"
    path.write_bytes(whole)
    assert read(path).samples.shape[1] >= SECONDS * RATE_HZ
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(InputError):
        read(path)


# Those that don't say how long they are, or not in a simple way: a cut one passes for a shorter one.
UNCHECKED = {"IRCAM", "MAT4", "MAT5", "MPC2K", "PAF", "PVF", "SDS", "WVE", "XI"}


def test_every_format_of_libsndfile_is_read_and_most_are_refused_when_cut(tmp_path: Path) -> None:
    written = set()
    for container in soundfile.available_formats().keys() - {"SD2"}:  # half of an SD2 lies in a file beside it
        path = tmp_path / container
        for channels, rate_hz in ((2, 48_000), (1, 48_000), (1, 8_000)):  # some formats hold no more than a telephone
            try:
                soundfile.write(path, noise(channels), rate_hz, format=container)
                break
            except (soundfile.LibsndfileError, TypeError, ValueError):
                path.unlink(missing_ok=True)
        else:
            continue
        written.add(container)
        assert read(path).samples.shape[1] >= SECONDS * RATE_HZ, container
        if container in UNCHECKED:
            continue
        whole = path.read_bytes()
        for kept in (0.1, 0.5, 0.9, 0.98):
            path.write_bytes(whole[: int(kept * len(whole))])
            with pytest.raises(InputError):
                read(path)
    assert written >= {"WAV", "FLAC", "AIFF", "OGG", "MP3", "CAF", "AU", "W64", "RF64", "IRCAM", "PAF", "MAT5"}


@pytest.mark.parametrize(("container", "subtype"), [each for each in CONTAINERS if each[0] != "MP3"])
def test_one_missing_byte_is_noticed(tmp_path: Path, container: str, subtype: str) -> None:
    (tmp_path / "take").write_bytes(saved(container, subtype)[:-1])
    with pytest.raises(InputError, match="truncated"):
        read(tmp_path / "take")


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_cut_between_two_pages_is_noticed(tmp_path: Path, subtype: str) -> None:
    whole = saved("OGG", subtype)
    (tmp_path / "take.ogg").write_bytes(whole[: whole.rindex(b"OggS")])
    with pytest.raises(InputError, match="truncated: its last page is not the end of the stream"):
        read(tmp_path / "take.ogg")


def test_metadata_before_the_samples_does_not_hide_a_cut(tmp_path: Path) -> None:
    """An MP3 may start with a picture, a WAV with chunks of odd length."""
    mp3 = saved("MP3", "MPEG_LAYER_III")
    picture = b"ID3\x04\x00\x00" + bytes([0, 1, 44, 60]) + bytes((1 << 14) + (44 << 7) + 60)
    wav = saved("WAV", "PCM_16")
    chunk = b"note" + struct.pack("<I", 5) + b"hello\x00"
    for whole in (picture + mp3, wav[:12] + chunk + wav[12:]):
        (tmp_path / "take").write_bytes(whole)
        assert read(tmp_path / "take").samples.shape[1] == SECONDS * RATE_HZ
        (tmp_path / "take").write_bytes(whole[: int(len(whole) * 0.9)])
        with pytest.raises(InputError, match="truncated: its header promises"):
            read(tmp_path / "take")


def test_chunks_after_the_samples_may_be_cut_from_a_wav(tmp_path: Path) -> None:
    """The take is whole, and editors that forget to correct the outer size are common."""
    wav = saved("WAV", "PCM_16")
    longer = wav[:4] + struct.pack("<I", len(wav) + 992) + wav[8:]
    (tmp_path / "take.wav").write_bytes(longer)
    assert read(tmp_path / "take.wav").samples.shape[1] == SECONDS * RATE_HZ


@pytest.mark.parametrize(("container", "subtype"), CONTAINERS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_damage_gives_audio_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, container: str, subtype: str, data: st.DataObject
) -> None:
    content = bytearray(saved(container, subtype))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, 120), st.integers(0, len(content) - 1)))
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "take"
    path.write_bytes(content)
    try:
        heard = read(path)
    except InputError:
        return
    assert bool(heard.samples.isfinite().all())


MAGIC = [
    b"RIFF", b"RF64____WAVEds64", b"riff", b"FORM", b".snd", b"caff", b"OggS", b"ID3\x04", b"fLaC", b"\xff\xfb", b"",
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(start=st.sampled_from(MAGIC), rest=st.binary(max_size=200))
def test_rubbish_is_an_input_error(tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes) -> None:
    path = tmp_path_factory.mktemp("rubbish") / "take"
    path.write_bytes(start + rest)
    for reader in (read, read_tags):
        with pytest.raises(InputError):
            reader(path)


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Root reads everything, so root becomes an ordinary user for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_permissions_are_named() -> None:
    # Not tmp_path: that lies in a folder which only its owner may enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for file in ("open.wav", "closed.wav"):
            soundfile.write(folder / file, noise(), RATE_HZ)
        (folder / "closed.wav").chmod(0)
        (folder / "locked").mkdir(mode=0o555)
        (folder / "hidden").mkdir()
        (folder / "hidden").chmod(0)
        with ordinary_user():
            assert read(folder / "open.wav").channels == 2
            with pytest.raises(InputError, match=r"closed\.wav: cannot be read: Permission denied"):
                read(folder / "closed.wav")
            with pytest.raises(InputError, match=r"hidden/take\.wav: cannot be read: Permission denied"):
                read(folder / "hidden" / "take.wav")
            with pytest.raises(InputError, match=r"report\.json: cannot be written: Permission denied"):
                write_bytes_atomic(folder / "locked" / "report.json", b"{}")
        assert list((folder / "locked").iterdir()) == []
        (folder / "hidden").chmod(0o700)  # so that its owner can remove it
