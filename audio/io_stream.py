"""Audio files that are written block by block, in bounded memory: whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from audio.bwf import TimeStamp, insert_time_stamp
from audio.encoding import LONGEST_WAV_BYTES, SOFTWARE, SUFFIX_FORMATS, comment_of, encode
from audio.errors import InputError
from audio.io import replacing
from audio.waveform import Waveform

FRAME_BYTES = 6  # two channels of 24 bits


def write_blocks(
    path: Path,
    blocks: Iterable[Waveform],
    sample_rate: int,
    *,
    tags: dict[str, str],
    stamp: TimeStamp | None = None,
) -> int:
    """Writes stereo blocks as `audio.io.write` writes a whole: 24 bits, tags in the comment; the count of frames.

    The file appears under its name when the last block is on disk; where `blocks` raises, nothing is left. Raises
    InputError for another suffix, sound beyond full scale or not finite, more than a WAV can hold, and where the file
    can't be written; ValueError for too long tags.
    """
    kind = SUFFIX_FORMATS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path}: the suffix is one of {', '.join(SUFFIX_FORMATS)}")
    comment = comment_of(tags, path)
    frames, peak = 0, 0.0

    def fitting() -> Iterator[np.ndarray]:
        nonlocal frames, peak
        for block in blocks:
            samples = block.samples.numpy()
            if not np.isfinite(samples).all():
                raise InputError(f"{path}: the chain gives numbers that are not finite")
            peak = max(peak, float(np.abs(samples).max(initial=0.0)))
            frames += samples.shape[1]
            if kind == "WAV" and frames * FRAME_BYTES > LONGEST_WAV_BYTES:
                raise InputError(f"{path}: longer than a WAV can be; name it .flac")
            if peak <= 1.0:
                yield samples

    try:
        with replacing(path) as handle:
            encode(handle, fitting(), sample_rate=sample_rate, channels=2, kind=kind, comment=comment)
            if peak > 1.0:
                over_db = 20 * float(np.log10(peak))
                raise InputError(
                    f"{path}: would peak at {over_db:+.1f} dBFS; end the chain with a gain of "
                    f"{-np.ceil(over_db * 10) / 10:.1f} dB or less"
                )
            if stamp is not None:
                insert_time_stamp(handle, stamp, originator=SOFTWARE)
    except soundfile.LibsndfileError as error:
        raise InputError(f"{path}: cannot be written: {error.error_string.rstrip('.')}") from error
    return frames
