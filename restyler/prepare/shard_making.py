"""Planned shards → finished ones: what is there stays, what another shard holds is copied, the rest is encoded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from audio.errors import InputError
from restyler.dataset_index import DATASET, CodecFacts, ShardInfo
from restyler.prepare.encoding import Encoder
from restyler.prepare.plan import PlannedSegment, PlannedShard, PlannedTake
from restyler.shard_reading import Entry, read_dataset, read_segment, read_shard_indices
from restyler.shards import Segment, finished_shard, write_shard
from restyler.storage import Storage

OURS = re.compile(r"(train|validation|test)-\d{5,}-[0-9a-f]{16}\.(tar|json)")


class UnreadableTakeError(InputError):
    """A file of this take could be read when it was examined, and can't be any more."""

    def __init__(self, take: PlannedTake, reason: str) -> None:
        super().__init__(reason)
        self.take = take


class OldSegments:
    """The segments of the set that lies in a folder already, by their digest; none if it has other latents.

    Nothing is read before the first one is asked for, and of a shard's index only the last one used is kept.
    """

    def __init__(self, folder: Path, codec: CodecFacts) -> None:
        self._folder, self._storage, self._codec = folder, Storage(str(folder)), codec
        self._shards: dict[str, ShardInfo] | None = None  # by the digest of a segment
        self._last: tuple[str, dict[str, Entry]] = ("", {})

    def get(self, planned: PlannedSegment) -> Segment | None:
        """The segment as it was written, or None where it isn't there or not as it was."""
        if self._shards is None:
            self._shards = self._found()
        shard = self._shards.get(planned.digest())
        if shard is None:
            return None
        try:
            entry = self._entries(shard)[planned.digest()]
            return read_segment(self._storage, shard.name, entry, latent_dim=self._codec.latent_dim)
        except InputError:  # damaged since: encoded anew
            return None

    def _found(self) -> dict[str, ShardInfo]:
        if not (self._folder / DATASET).exists():
            return {}
        dataset = read_dataset(self._storage)
        if dataset.codec != self._codec:
            return {}
        found: dict[str, ShardInfo] = {}
        for shard in dataset.shards.all():
            with suppress(InputError):  # damaged or gone
                found |= dict.fromkeys(self._entries(shard), shard)
        return found

    def _entries(self, shard: ShardInfo) -> dict[str, Entry]:
        if self._last[0] != shard.name:
            (index,) = read_shard_indices(self._storage, [shard])
            self._last = shard.name, {entry.facts["digest"]: entry for entry in index.entries}
        return self._last[1]


def make_shard(
    shard: PlannedShard,
    folder: Path,
    encoder: Encoder,
    old: OldSegments,
    *,
    verify: bool,
    progress: Callable[[float], None],
) -> None:
    """Writes one shard where it is not there yet; verify: or is damaged, which means reading it. progress is told the
    seconds of raw takes of each finished segment.

    Raises UnreadableTakeError for a file that can't be read, InputError where the shard can't be written.
    """
    rate = encoder.codec.frame_rate_hz
    if finished_shard(folder, shard.stem, whole=verify) is not None:
        progress(shard.seconds(rate))
        return

    def segments() -> Iterator[Segment]:
        for _, group in groupby(shard.segments, lambda planned: (planned.take.key, planned.stretch)):
            stretch = list(group)
            try:
                done = {planned.name: segment for planned in stretch if (segment := old.get(planned))}
                missing = [planned for planned in stretch if planned.name not in done]
                done |= {segment.name: segment for segment in encoder.segments(missing)} if missing else {}
            except InputError as error:
                raise UnreadableTakeError(stretch[0].take, str(error)) from error
            for planned in stretch:
                yield done.pop(planned.name)
                progress(planned.frames / rate)

    write_shard(folder, shard.stem, segments(), frame_rate_hz=rate)


def remove_others(folder: Path, shards: Sequence[ShardInfo]) -> None:
    """Deletes the shards of earlier runs that dataset.json no longer names."""
    named = {name for shard in shards for name in (shard.name, shard.index.name)}
    for path in folder.iterdir():
        if OURS.fullmatch(path.name) and path.name not in named:
            path.unlink()
