"""From accepted pairs to segments and shards: a pure function of what was measured, the same in every process."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from audio.activity import STEP_S, active
from audio.alignment import Alignment, Region
from restyler.pairs import SPLITS, fraction
from restyler.prepare.examining import Stamp
from restyler.prepare.segments import SegmentRules, Span, active_segments

STRETCH_S = 48.0  # encoded in one go at most, unless one segment is longer: what is held of a file at once
JOINED_GAP_S = 1.0  # between two segments: longer than that, the sound around each of them costs less


@dataclass(frozen=True)
class PlannedMix:
    """One accepted mix of a take. gain_db brings it to the loudness of the set."""

    key: str
    path: Path
    content: str
    alignment: Alignment
    gain_db: float
    style: str | None
    chain: str | None


@dataclass(frozen=True)
class PlannedTake:
    """One raw take with its accepted mixes. stamps: of the files when they were heard, by their path."""

    key: str
    path: Path
    content: str
    song: str
    singer: str | None
    split: str
    gain_db: float
    stamps: dict[Path, Stamp]
    mixes: tuple[PlannedMix, ...]


@dataclass(frozen=True)
class PlannedSegment:
    """Frames start_frame … stop_frame − 1 of a take, with the mixes that cover them, each with the region that does.

    stretch: (first, last + 1) of the frames that are encoded in one go, of this segment and its neighbours.
    """

    name: str
    take: PlannedTake
    mixes: tuple[PlannedMix, ...]
    regions: tuple[Region, ...]
    start_frame: int
    stop_frame: int
    stretch: tuple[int, int]

    @property
    def frames(self) -> int:
        return self.stop_frame - self.start_frame

    def digest(self) -> str:
        """A hash of all that its latents and facts depend on, apart from the codec."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:32]

    def identity(self) -> dict[str, Any]:
        """What its latents and facts depend on: the contents of files, never their places."""
        take = self.take
        return {
            "take": [take.key, take.content, take.song, take.singer, take.gain_db],
            "frames": [self.start_frame, self.stop_frame, *self.stretch],
            "mixes": [
                [
                    [mix.key, mix.content, mix.gain_db, mix.style, mix.chain],
                    [region.offset_s, mix.alignment.rate, mix.alignment.polarity],
                ]
                for mix, region in zip(self.mixes, self.regions, strict=True)
            ],
        }


@dataclass(frozen=True)
class PlannedShard:
    stem: str
    split: str
    segments: tuple[PlannedSegment, ...]

    def seconds(self, frame_rate_hz: float) -> float:
        return sum(segment.frames for segment in self.segments) / frame_rate_hz


def plan_segments(
    take: PlannedTake, level_db: np.ndarray, rules: SegmentRules, *, frame_rate_hz: float
) -> list[PlannedSegment]:
    """The take's active stretches, each with every mix of which one region covers it.

    level_db [steps]: of the raw take, in steps of `audio.activity.STEP_S`.
    """
    spans = _elementary_spans([(r.start_s, r.stop_s) for mix in take.mixes for r in mix.alignment.regions])
    found: list[PlannedSegment] = []
    name = hashlib.sha256(take.key.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    for start_s, stop_s in active_segments(active(level_db), level_db, STEP_S, spans=spans, rules=rules):
        start, stop = math.ceil(start_s * frame_rate_hz - 1e-6), math.floor(stop_s * frame_rate_hz + 1e-6)
        times_s = start / frame_rate_hz, stop / frame_rate_hz
        covered = [(mix, region) for mix in take.mixes if (region := covering(mix.alignment, *times_s))]
        if covered:
            mixes, regions = zip(*covered, strict=True)
            found.append(PlannedSegment(f"{name}-{start:08d}", take, mixes, regions, start, stop, (start, stop)))
    return _in_stretches(found, frame_rate_hz)


def _in_stretches(segments: Sequence[PlannedSegment], frame_rate_hz: float) -> list[PlannedSegment]:
    """The same segments, and those that lie close together with the same mixes at the same places share a stretch."""
    stretches: list[list[PlannedSegment]] = []
    for segment in segments:
        first, last = (stretches[-1][0], stretches[-1][-1]) if stretches else (segment, segment)
        if (
            stretches
            and (last.mixes, last.regions) == (segment.mixes, segment.regions)
            and segment.start_frame - last.stop_frame <= JOINED_GAP_S * frame_rate_hz
            and segment.stop_frame - first.start_frame <= STRETCH_S * frame_rate_hz
        ):
            stretches[-1].append(segment)
        else:
            stretches.append([segment])
    return [
        replace(segment, stretch=(stretch[0].start_frame, stretch[-1].stop_frame))
        for stretch in stretches
        for segment in stretch
    ]


def covering(alignment: Alignment, start_s: float, stop_s: float) -> Region | None:
    """The one region that holds all of start_s … stop_s, if there is one."""
    slack_s = 1e-6
    for region in alignment.regions:
        if region.start_s - slack_s <= start_s and stop_s <= region.stop_s + slack_s:
            return region
    return None


def _elementary_spans(regions: Sequence[Span]) -> list[Span]:
    """The stretches between any two neighbouring edges: in each, the same regions hold."""
    edges = sorted({edge for region in regions for edge in region})
    return [
        (one, other) for one, other in pairwise(edges) if any(start <= one and other <= stop for start, stop in regions)
    ]


def plan_shards(
    segments: Sequence[PlannedSegment], *, frame_rate_hz: float, shard_s: float, made_with: dict[str, Any]
) -> list[PlannedShard]:
    """Shards of about shard_s seconds of raw takes each, train first.

    A take goes to the bucket that the first bits of its key's hash name, and their number is the least with which
    buckets are short enough: added takes change their own buckets alone, until the set has doubled. A shard's stem
    ends in a hash of all that its bytes depend on; made_with: what that is beside the segments (codec, loudness).
    """
    shards = []
    for split in SPLITS:
        of_split = [segment for segment in segments if segment.take.split == split]
        seconds = sum(segment.frames for segment in of_split) / frame_rate_hz
        buckets = 2 ** max(0, math.ceil(math.log2(seconds / shard_s))) if seconds else 1
        filled: dict[int, list[PlannedSegment]] = defaultdict(list)
        for segment in of_split:
            filled[int(fraction(segment.take.key) * buckets)].append(segment)
        for bucket, members in sorted(filled.items()):
            ordered = sorted(members, key=lambda segment: segment.name)
            identity = json.dumps([made_with, [segment.digest() for segment in ordered]], sort_keys=True)
            digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
            shards.append(PlannedShard(f"{split}-{bucket:05d}-{digest}", split, tuple(ordered)))
    return shards
