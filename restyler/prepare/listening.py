"""Audio of some validation segments, kept beside the shards: what training restyles to be heard and measured."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from audio.errors import InputError
from audio.io import make_folder, write, write_bytes_atomic
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from restyler.audition_takes import Candidate, audition_names, choose
from restyler.listening import FOLDER, FORMAT, LISTENING, ListenedFile, ListenedTake, ListeningIndex, parse_listening
from restyler.prepare.encoding import Encoder
from restyler.prepare.plan import PlannedSegment

LONG_S = 5.0  # of a segment: a shorter one tells little of dynamics and reverb
OURS = re.compile(r"[A-Za-z0-9_-]+\.(raw|mix)\.flac")

Files = tuple[ListenedFile, ListenedFile]  # of raw take and mix
Found = tuple[str, str | None, str, Files]  # key, style, digest


def write_listening(
    out: Path, segments: Sequence[PlannedSegment], encoder: Encoder, *, takes: int, loudness_lufs: float
) -> None:
    """Keeps the audio of up to `takes` of the segments, each with one of its mixes, as the codec hears them:
    OUT/listening/NAME.raw.flac and NAME.mix.flac, and OUT/listening.json, which comes last.

    segments: of the validation split. What is chosen and written does not depend on their order, and other takes that
    come or go change little of it. Files that are as they should be stay, those of earlier runs go.

    Raises InputError for a recording that can't be read, and where a file can't be written.
    """
    codec, earlier = encoder.codec, _earlier(out)

    def kept(single: PlannedSegment) -> Found | None:
        identity = json.dumps([FORMAT, codec.sample_rate, codec.hop_samples, single.digest()])
        digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
        files = earlier.get(digest) or _written(out, f"{single.name}-{digest}", single, encoder)
        return files and (single.take.key, single.mixes[0].style, digest, files)

    found = choose(_candidates(segments, codec.frame_rate_hz), takes, kept)
    names = audition_names([(key, style) for key, style, _, _ in found])
    listed = [
        ListenedTake(name=name, key=key, style=style, digest=digest, raw=raw, mix=mix)
        for name, (key, style, digest, (raw, mix)) in zip(names, found, strict=True)
    ]
    index = ListeningIndex(format=1, sample_rate=codec.sample_rate, loudness_lufs=loudness_lufs, takes=listed)
    _write_changed(out / LISTENING, (index.model_dump_json(indent=1) + "\n").encode())
    named = {file.name for _, _, _, files in found for file in files}
    for path in (out / FOLDER).glob("*"):
        if OURS.fullmatch(path.name) and f"{FOLDER}/{path.name}" not in named:
            path.unlink()


def _candidates(segments: Sequence[PlannedSegment], frame_rate_hz: float) -> list[Candidate[PlannedSegment]]:
    """Every segment with each of its mixes alone; the longest ones of a take first."""
    return [
        Candidate(
            replace(segment, mixes=(mix,), regions=(region,)),
            segment.take.key,
            mix.style,
            segment.frames < LONG_S * frame_rate_hz,
            (-segment.frames, segment.start_frame, mix.key),
        )
        for segment in segments
        for mix, region in zip(segment.mixes, segment.regions, strict=True)
    ]


def _earlier(out: Path) -> dict[str, Files]:
    """By digest, what an earlier run wrote and is still as it was."""
    place = out / LISTENING
    try:
        takes = parse_listening(place.read_bytes(), str(place)).takes
    except (OSError, InputError):  # none, or damaged: written anew
        return {}
    return {take.digest: (take.raw, take.mix) for take in takes if all(_intact(out, f) for f in (take.raw, take.mix))}


def _intact(out: Path, file: ListenedFile) -> bool:
    try:
        return hashlib.sha256((out / file.name).read_bytes()).hexdigest() == file.sha256
    except OSError:
        return False


def _written(out: Path, stem: str, single: PlannedSegment, encoder: Encoder) -> Files | None:
    """Writes both sides of a segment with one mix; None, and nothing written, where one of them is silent."""
    fresh = Encoder(encoder.codec, encoder.device)  # reads forwards, and segments come in no order here
    rate = encoder.codec.sample_rate
    sides = [samples for _, samples in fresh.sides(single, single.start_frame, single.stop_frame)]
    if any(integrated_loudness_lufs(Waveform(samples, rate)) == -math.inf for samples in sides):
        return None
    make_folder(out / FOLDER)
    raw, mix = (
        _write_side(out, f"{FOLDER}/{stem}.{side}.flac", samples, rate)
        for side, samples in zip(("raw", "mix"), sides, strict=True)
    )
    return raw, mix


def _write_side(out: Path, name: str, samples: torch.Tensor, sample_rate: int) -> ListenedFile:
    # Resampling may lift a peak over full scale. A gain does no harm: whoever listens brings both sides to one level.
    samples = samples / max(1.0, float(samples.abs().max()))
    write(out / name, Waveform(samples, sample_rate), tags={})
    data = (out / name).read_bytes()
    return ListenedFile(name=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _write_changed(path: Path, data: bytes) -> None:
    if not path.exists() or path.read_bytes() != data:
        write_bytes_atomic(path, data)
