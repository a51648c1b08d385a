"""Audio files that are written block by block, in bounded memory: whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from audio.errors import InputError
from audio.io import MAX_TAG_BYTES, SOFTWARE, SUFFIX_FORMATS, replacing
from audio.waveform import Waveform

LONGEST_WAV_BYTES = 0xFFFF0000
FRAME_BYTES = 6  # two channels of 24 bits


def write_blocks(path: Path, blocks: Iterable[Waveform], sample_rate: int, *, tags: dict[str, str]) -> int:
    """Writes stereo blocks as `audio.io.write` writes a whole: 24 bits, tags in the comment; the count of frames.

    The file appears under its name when the last block is on disk; where `blocks` raises, nothing is left. Raises
    InputError for another suffix, sound beyond full scale or not finite, more than a WAV can hold, and where the file
    can't be written; ValueError for too long tags.
    """
    kind = SUFFIX_FORMATS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path}: the suffix is one of {', '.join(SUFFIX_FORMATS)}")
    comment = json.dumps(tags, separators=(",", ":"))
    if len(comment) > MAX_TAG_BYTES:
        raise ValueError(f"{path}: tags of {len(comment)} bytes; at most {MAX_TAG_BYTES} fit")
    frames, peak = 0, 0.0
    try:
        with replacing(path) as handle:
            with soundfile.SoundFile(handle, "w", sample_rate, 2, "PCM_24", format=kind) as sink:
                sink.software, sink.comment = SOFTWARE, comment
                for block in blocks:
                    samples = block.samples.numpy()
                    if not np.isfinite(samples).all():
                        raise InputError(f"{path}: the chain gives numbers that are not finite")
                    peak = max(peak, float(np.abs(samples).max(initial=0.0)))
                    frames += samples.shape[1]
                    if kind == "WAV" and frames * FRAME_BYTES > LONGEST_WAV_BYTES:
                        raise InputError(f"{path}: longer than a WAV can be; name it .flac")
                    if peak <= 1.0:
                        sink.write(samples.T)
            if peak > 1.0:
                over_db = 20 * float(np.log10(peak))
                raise InputError(
                    f"{path}: would peak at {over_db:+.1f} dBFS; end the chain with a gain of "
                    f"{-np.ceil(over_db * 10) / 10:.1f} dB or less"
                )
            _require_whole(handle, frames)
    except soundfile.LibsndfileError as error:
        raise InputError(f"{path}: cannot be written: {error.error_string.rstrip('.')}") from error
    return frames


def _require_whole(handle: BinaryIO, frames: int) -> None:
    """libsndfile does not report a full disk reliably, so what lies there is asked. Raises OSError."""
    handle.flush()
    if soundfile.info(handle.name).frames != frames:
        raise OSError(28, "No space left on device")
