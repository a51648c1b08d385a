"""The sounds of a test as listeners fetch them: under addresses and in bytes that tell nothing.

Two listeners, two pages or two slots never share an address, and the same sound under two addresses differs in its
bytes: each copy is 24-bit PCM with triangular noise of ±1 step from a generator of its own, at −141 dBFS under every
converter's noise. So neither a hash nor the size nor a cache shows that the hidden reference is the open one. Nothing
can keep somebody from subtracting two recordings of what they hear.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from audio.errors import InputError
from restyler.listen.plan import STIMULI, ListeningTest, Stimulus

BYTES_A_SAMPLE = 3
FORM = "PCM_24"  # of files: as whole numbers, floating-point samples would come out as silence
HEADER_BYTES = 44
CHUNK_FRAMES = 1 << 15
COUNTS = {"ab": 2, "abx": 2, "ccr": 2, "acr": 1}  # sounds of a trial; the other kinds take any number
HIGHEST = (1 << 23) - 1
# Each byte holds four draws of two bits: their number of ones, less one, is −1, 0, 0 or 1.
NOISE = np.array([[(byte >> shift & 1) + (byte >> shift + 1 & 1) - 1 for shift in (0, 2, 4, 6)] for byte in range(256)])
NOISE = NOISE.astype(np.int32)


def address(secret: str, *where: int | str) -> str:
    """The opaque name of the sound at a place (listener, page, slot)."""
    return _keyed(secret, "address", *where).hex()[:32]


def noise_seed(secret: str, *where: int | str) -> int:
    """The seed of that copy's noise: fixed, so that averaging repeated fetches can't remove it."""
    return int.from_bytes(_keyed(secret, "noise", *where)[:16], "little")


def _keyed(secret: str, *purpose: int | str) -> bytes:
    return hmac.digest(secret.encode(), repr(purpose).encode(), hashlib.sha256)


def path_of(folder: Path, stimulus: Stimulus) -> Path:
    """The file of a stimulus. Raises InputError where the plan names one outside of stimuli/."""
    name = stimulus.file
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise InputError(f"{folder}: stimulus file {name!r}: a plain file name below {STIMULI}/ is allowed")
    return folder / STIMULI / name


def check_sounds(folder: Path, plan: ListeningTest) -> None:
    """Raises InputError where a trial has too many sounds for its kind, or one is missing, unreadable, not 24-bit PCM,
    or tells itself from its trial's others by its size.

    Reads every file once, so that none is slow when the first listener asks for it.
    """
    for trial in plan.trials:
        if len(trial.stimuli) != COUNTS.get(trial.kind, len(trial.stimuli)):
            raise InputError(f"trial {trial.id}: {len(trial.stimuli)} sounds; {trial.kind} has {COUNTS[trial.kind]}")
        forms = {}
        for stimulus in (*trial.stimuli, *((trial.reference,) if trial.reference else ())):
            path = path_of(folder, stimulus)
            try:
                path.read_bytes()
                info = soundfile.info(str(path))
            except (OSError, soundfile.SoundFileError) as error:
                raise InputError(f"{path}: cannot be read as audio; the plan names it for trial {trial.id}") from error
            forms[path.name] = (info.samplerate, info.channels, info.frames)
            if info.subtype != FORM:
                raise InputError(f"{path}: {info.subtype_info}; 24-bit PCM, as the test was designed, is needed")
            if info.samplerate != plan.sample_rate_hz:
                raise InputError(f"{path}: {info.samplerate} Hz; the plan says {plan.sample_rate_hz} Hz")
        if len(set(forms.values())) > 1:
            told = ", ".join(f"{name}: {frames} samples of {channels}" for name, (_, channels, frames) in forms.items())
            raise InputError(f"trial {trial.id}: sounds of one length and channel count are needed, not {told}")


def size_bytes(path: Path) -> int:
    """Of the file that `disguised` makes of one."""
    info = soundfile.info(str(path))
    return HEADER_BYTES + int(info.frames) * int(info.channels) * BYTES_A_SAMPLE


def disguised(path: Path, seed: int) -> Iterator[bytes]:
    """A sound file as one copy for one address: a plain 24-bit WAV with noise of ±1 step, piece by piece."""
    generator = np.random.Generator(np.random.SFC64(seed))
    with soundfile.SoundFile(str(path)) as source:
        yield header(source.frames, source.channels, source.samplerate)
        while len(frames := source.read(CHUNK_FRAMES, dtype="int32", always_2d=True)):
            yield packed((frames >> 8).reshape(-1), generator)


def packed(samples: np.ndarray, generator: np.random.Generator) -> bytes:
    """24-bit samples [n] with noise, as little-endian bytes; at full scale there is no room for noise outwards."""
    drawn = np.frombuffer(generator.bytes((samples.size + 3) // 4), dtype=np.uint8)
    noisy = np.clip(samples + NOISE[drawn].reshape(-1)[: samples.size], -HIGHEST - 1, HIGHEST).astype("<i4")
    return noisy.view(np.uint8).reshape(-1, 4)[:, :BYTES_A_SAMPLE].tobytes()


def header(frames: int, channels: int, sample_rate_hz: int) -> bytes:
    """The 44 bytes before the samples of a 24-bit WAV without any other chunk."""
    block = channels * BYTES_A_SAMPLE
    data = frames * block
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", HEADER_BYTES - 8 + data, b"WAVE", b"fmt ", 16, 1, channels, sample_rate_hz, sample_rate_hz * block,
        block, 8 * BYTES_A_SAMPLE, b"data", data,
    )  # fmt: skip


def wav_bytes(frames: np.ndarray, sample_rate_hz: int, seed: int) -> bytes:
    """frames [samples channels] in ±1 as a 24-bit WAV like those of the test's sounds."""
    steps = np.round(frames * HIGHEST).astype(np.int32).reshape(-1)
    data = packed(steps, np.random.Generator(np.random.SFC64(seed)))
    return header(len(frames), frames.shape[1], sample_rate_hz) + data
