"""Audio files in and out, and files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import torch

from audio import on_disk
from audio.bwf import TimeStamp, insert_time_stamp
from audio.containers import missing_audio
from audio.encoding import LONGEST_WAV_BYTES, SOFTWARE, SUFFIX_FORMATS, comment_of, encode
from audio.errors import InputError
from audio.waveform import Waveform

MIN_SAMPLE_RATE_HZ = 8_000
MAX_SAMPLE_RATE_HZ = 384_000
MIN_PEAK_DBFS = -90.0
MAX_PEAK_DBFS = 40.0
MAX_CHANNELS = 2
MIN_DURATION_S = 0.1
READ_BLOCK_FRAMES = 1 << 18
LEAST_ROOM_FRAMES = 1 << 22  # 87 s at 48 kHz
UNRECOGNISED_FORMAT = 1  # libsndfile's error code
UNKNOWN_FRAMES = 1 << 62


def read(path: str | Path) -> Waveform:
    """Reads a whole audio file of any format that libsndfile reads, at its own rate, as float32.

    Integer formats become ±1.0; floating-point files keep their values, so their peaks may exceed 1.0. Silence is
    read like anything else: see `require_signal`.

    Raises InputError for a file that is missing, not a file, unreadable, empty, not audio, damaged, cut short or not
    finite, of more than two channels, outside the allowed rates (8 to 384 kHz), duration (from 0.1 s) and peak (+40
    dBFS, beyond which a floating-point file is surely not scaled to ±1.0). A WAV whose header was never closed (data
    size 0) holds no samples by its own word and is refused; one that was streamed (unknown size) is read to its end,
    see `audio.containers`. Inside `audio.on_disk.kept_in` the waveform takes no memory.
    """
    with _opened(path) as source:
        count, samples = 0, torch.empty(source.channels, 0)
        for frames in _blocks(source, _shown(path)):
            stop = count + len(frames)
            if stop > samples.shape[1]:
                samples = _roomier(samples, stop, source.frames)
            samples[:, count:stop] = torch.from_numpy(frames.T)
            on_disk.let_go(samples)
            count = stop
        return Waveform(samples[:, :count], source.samplerate)


def _roomier(samples: torch.Tensor, least_frames: int, promised_frames: int) -> torch.Tensor:
    """The samples at the start of a longer tensor: as long as a header promises, but never so much longer that a forged
    one could ask for more than some times what its file fills."""
    room = max(least_frames, min(promised_frames, max(LEAST_ROOM_FRAMES, 2 * samples.shape[1])))
    longer = on_disk.empty(len(samples), room)
    for part in on_disk.parts(samples, longer):
        longer[:, part] = samples[:, part]
    return longer


def read_stretch(path: str | Path, start_s: float, stop_s: float) -> Waveform:
    """What `read` gives from start_s to stop_s, as far as the file goes, without the time and memory for the rest.

    Raises InputError where `read` does, except for what is wrong outside the stretch.
    """
    name = _shown(path)
    with _opened(path) as source:
        _check_header(source, name)
        start, stop = (min(round(time_s * source.samplerate), source.frames) for time_s in (start_s, stop_s))
        source.seek(start)
        frames = source.read(stop - start, dtype="float32", always_2d=True)
        _check_samples(frames, name)
        return Waveform(torch.from_numpy(frames.T.copy()), source.samplerate)


@dataclass(frozen=True)
class Header:
    """What an audio file says of itself; nothing of it is proven before it has been read."""

    sample_rate_hz: int
    channels: int
    frames: int

    @property
    def duration_s(self) -> float:
        return self.frames / self.sample_rate_hz


def header(path: str | Path) -> Header:
    """The header of a file, checked as `read` does, before any sample is decoded. Raises InputError where it does."""
    with _opened(path) as source:
        _check_header(source, _shown(path))
        return Header(source.samplerate, source.channels, source.frames)


def duration_s(path: str | Path) -> float:
    """The duration of a file that `read` accepts, in bounded memory: all of it is read and checked, nothing kept.

    Raises InputError where `read` does.
    """
    with _opened(path) as source:
        return sum(map(len, _blocks(source, _shown(path)))) / source.samplerate


def blocks(path: str | Path) -> Iterator[Waveform]:
    """The samples that `read` gives, in order and in blocks of some seconds, in bounded memory.

    What is read has been checked; what is wrong further on shows when it is reached. Raises InputError where `read`
    does, for a file that is too short after its last block.
    """
    with _opened(path) as source:
        for frames in _blocks(source, _shown(path)):
            yield Waveform(torch.from_numpy(frames.T.copy()), source.samplerate)


@contextmanager
def _opened(path: str | Path) -> Iterator[soundfile.SoundFile]:
    """An audio file for reading; whatever is wrong with it, then or while it is read, becomes an InputError."""
    name = _shown(path)
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise InputError(f"{name}: not a file; an audio file is needed")
        with Path(path).open("rb", buffering=0) as handle:  # libsndfile starts where the descriptor stands
            if handle.seek(0, os.SEEK_END) == 0:
                raise InputError(f"{name}: empty (0 bytes); an audio file is needed")
            missing = missing_audio(handle)
            if missing:
                raise InputError(f"{name}: truncated: {missing}")
            handle.seek(0)
            # By descriptor: libsndfile then judges the content, where a path would let the suffix have a say.
            with soundfile.SoundFile(handle.fileno(), closefd=False) as source:
                yield source
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from error
    except soundfile.LibsndfileError as error:
        if error.code == UNRECOGNISED_FORMAT:
            raise InputError(f"{name}: not audio in any format that libsndfile reads") from error
        raise InputError(f"{name}: damaged or truncated: {error.error_string.rstrip('.')}") from error


def _check_header(source: soundfile.SoundFile, name: str) -> None:
    """Raises InputError where a file is not what is allowed by its own word."""
    if source.channels > MAX_CHANNELS:
        raise InputError(f"{name}: {source.channels} channels; 1 or {MAX_CHANNELS} allowed")
    if not MIN_SAMPLE_RATE_HZ <= source.samplerate <= MAX_SAMPLE_RATE_HZ:
        raise InputError(
            f"{name}: a sample rate of {source.samplerate} Hz; {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ} Hz allowed"
        )
    if source.frames == 0:
        raise InputError(f"{name}: 0 samples by its header; at least {MIN_DURATION_S:g} s needed")
    if source.frames >= UNKNOWN_FRAMES:
        raise InputError(f"{name}: its header states no length (a streamed FLAC); re-encode it with its length")


def _check_samples(frames: np.ndarray, name: str) -> None:
    if not np.isfinite(frames).all():
        raise InputError(f"{name}: contains NaN or infinite samples; every sample must be a finite number")
    peak_db = _peak_dbfs(frames)
    if peak_db > MAX_PEAK_DBFS:
        raise InputError(f"{name}: peaks at {peak_db:+.0f} dBFS; samples must be scaled to ±1.0")


def _blocks(source: soundfile.SoundFile, name: str) -> Iterator[np.ndarray]:
    """All samples of an open file as float32 [frames channels]; InputError where it is not what is allowed.

    In blocks, so that a forged length cannot ask for more memory than the file fills.
    """
    _check_header(source, name)
    count = 0
    while len(frames := source.read(READ_BLOCK_FRAMES, dtype="float32", always_2d=True)):
        _check_samples(frames, name)
        count += len(frames)
        yield frames
    if count < MIN_DURATION_S * source.samplerate:
        raise InputError(f"{name}: {count / source.samplerate:.3f} s long; at least {MIN_DURATION_S:g} s needed")


def require_signal(waveform: Waveform, name: str | Path) -> None:
    """Raises InputError that names `name` where the peak is below −90 dBFS."""
    peak_db = max(_peak_dbfs(waveform.samples[:, part].numpy(force=True)) for part in on_disk.parts(waveform.samples))
    if peak_db < MIN_PEAK_DBFS:
        raise InputError(
            f"{_shown(name)}: silent (peak {peak_db:.0f} dBFS); a peak of at least {MIN_PEAK_DBFS:.0f} dBFS needed"
        )


def write(path: str | Path, waveform: Waveform, *, tags: dict[str, str], stamp: TimeStamp | None = None) -> None:
    """Writes a 24-bit WAV or FLAC (by suffix) with tags, whole or not at all. stamp: for a WAV, at its rate.

    tags: what a listener needs to make the file again (model, seed, settings); they ride as one JSON object in the
    comment, at most 2000 bytes, and `read_tags` gives them back. No dither: the rounding error of 24 bits lies
    below −140 dBFS, under every converter's noise.

    Raises ValueError for no samples, samples outside ±1.0 or not finite (the caller has to guard its levels), for
    another suffix, too long tags, or a stamp in another file than a WAV; InputError where the file can't be written,
    and for what is too long for a WAV.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIX_FORMATS:
        raise ValueError(f"{_shown(path)}: the suffix is one of {', '.join(SUFFIX_FORMATS)}")
    kind, comment = SUFFIX_FORMATS[path.suffix.lower()], comment_of(tags, _shown(path))
    samples = waveform.samples.numpy(force=True)
    within = [bool((np.abs(samples[:, part]) <= 1.0).all()) for part in on_disk.parts(samples)]  # NaN is not <= 1
    if not within or not all(within):
        raise ValueError(f"{_shown(path)}: there must be samples, finite and within ±1.0")
    if kind == "WAV" and 3 * samples.size > LONGEST_WAV_BYTES:
        raise InputError(f"{_shown(path)}: {waveform.duration_s / 60:.0f} minutes: longer than a WAV can be")
    form = {"sample_rate": waveform.sample_rate, "channels": waveform.channels}
    with replacing(path) as handle:
        encode(handle, (samples[:, part] for part in on_disk.parts(samples)), kind=kind, comment=comment, **form)
        if stamp is not None:
            insert_time_stamp(handle, stamp, originator=SOFTWARE)


def read_tags(path: str | Path) -> dict[str, str]:
    """The tags that `write` put into a file. Raises InputError where it can't be read or has none."""
    name = _shown(path)
    with _opened(path) as source:
        comment = source.comment
    try:
        tags = json.loads(comment)
    except json.JSONDecodeError:
        tags = None
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise InputError(f"{name}: carries no tags of {SOFTWARE}; only files that it wrote do")
    return tags


def make_folder(path: str | Path) -> Path:
    """The folder `path`, made with its parents if need be. Raises InputError where that fails."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{_shown(path)}: no folder can be made here: {error.strerror}") from error
    return Path(path)


def write_text_atomic(path: str | Path, text: str) -> None:
    """`write_bytes_atomic` for text, as UTF-8."""
    write_bytes_atomic(path, text.encode())


def write_bytes_atomic(path: str | Path, data: bytes | memoryview) -> None:
    """Writes a file as `replacing` does. Raises InputError where the folder is missing, not writable or full."""
    with replacing(Path(path)) as handle:
        handle.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that is under its name at every moment the old one, the new one, or absent; never half of one.

    The bytes go to a hidden file in the same folder (the handle's `name`), to disk, and only then under the name; where
    the block raises, nothing is left. An OSError in it becomes an InputError.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        try:
            with temporary.open("x+b") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"{_shown(path)}: cannot be written: {error.strerror}") from error


def _peak_dbfs(samples: np.ndarray) -> float:
    peak = float(np.abs(samples).max(initial=0.0))
    return 20 * float(np.log10(peak)) if peak > 0 else float("-inf")


def _shown(path: str | Path) -> str:
    """A path on one line, whatever its characters."""
    text = str(path)
    return text if text.isprintable() else repr(text)
