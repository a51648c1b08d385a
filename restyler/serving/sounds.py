"""Mixes in the formats in which they are asked for."""

from __future__ import annotations

from pathlib import Path

import soundfile

from restyler.serving.places import Places
from restyler.serving.storage import fresh_id
from restyler.serving.work import mix_path

BLOCK_FRAMES = 1 << 16


def mix_file(places: Places, job: str, number: int, form: str) -> Path:
    """The file of a mix that is made: wav, or flac of the same samples and comment, which is made once and kept."""
    path = mix_path(places.job(job), number)
    if form == "wav":
        return path
    name = f"{job}-{number:02d}.flac"
    found = places.use_derived(name)
    if found is None:
        found = places.derived(name)
        temporary = found.with_name(f".{fresh_id()}.tmp")
        try:
            with (
                soundfile.SoundFile(path) as source,
                soundfile.SoundFile(
                    temporary, "w", source.samplerate, source.channels, source.subtype, format="FLAC"
                ) as sink,
            ):
                sink.software, sink.comment = source.software, source.comment
                for block in source.blocks(BLOCK_FRAMES, dtype="int32", always_2d=True):
                    sink.write(block)
            temporary.replace(found)
        finally:
            temporary.unlink(missing_ok=True)
    return found
