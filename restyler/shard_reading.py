"""Shards read back: what an index names, whole segments, and whether every byte is still the one that was written."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audio.errors import InputError
from restyler.dataset_index import DATASET, FORMAT, DatasetIndex, FileFacts, ShardInfo, parse_index
from restyler.moments import Moments
from restyler.shards import BLOCK_FRAMES, Segment, array_names, block_checksums
from restyler.storage import Range, Storage

CHUNK_BYTES = 1 << 24
AT_ONCE = 16  # indices: enough to hide a network's delay, few enough to forget them before they fill the memory


@dataclass(frozen=True)
class Entry:
    """A segment as its shard's index names it: the bytes start … stop − 1 of the tar file hold it whole.

    offsets: where the frames of raw, mix0, mix1 … start. checksums: of the blocks of each, uint32.
    """

    name: str
    start: int
    stop: int
    offsets: tuple[int, ...]
    checksums: tuple[np.ndarray, ...]
    facts_range: tuple[int, int]
    facts_crc32: int
    facts: dict[str, Any]

    @property
    def frames(self) -> int:
        return int(self.facts["frames"])


@dataclass(frozen=True)
class ShardIndex:
    """All segments of a shard in order, and the moments of its latents (raw and mixes pooled) and of mix − raw."""

    entries: list[Entry]
    latents: Moments
    difference: Moments


def read_dataset(storage: Storage) -> DatasetIndex:
    """Raises InputError where there is no prepared data set."""
    try:
        data = storage.read(DATASET)
    except InputError as error:
        raise InputError(f"{error}; a prepared data set holds one") from None
    return parse_index(data, f"{storage.url}/{DATASET}")


def read_shard_indices(storage: Storage, shards: Sequence[ShardInfo]) -> Iterator[ShardIndex]:
    """The indices of shards in order, some at once. Raises InputError for one that is missing or damaged."""
    for first in range(0, len(shards), AT_ONCE):
        files = [shard.index for shard in shards[first : first + AT_ONCE]]
        found = storage.ranges([Range(file.name, 0, file.bytes) for file in files])
        yield from (_parse(storage, file, data) for file, data in zip(files, found, strict=True))


def _parse(storage: Storage, file: FileFacts, data: bytes) -> ShardIndex:
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise InputError(f"{storage.url}/{file.name}: damaged: its SHA-256 is not the one in {DATASET}")
    content = json.loads(data)
    if (content["format"], content["block_frames"]) != (FORMAT, BLOCK_FRAMES):
        raise InputError(f"{storage.url}/{file.name}: of another format than its {DATASET}")
    return ShardIndex(
        [_entry(row) for row in content["segments"]],
        Moments.from_json(content["moments"]["latents"]),
        Moments.from_json(content["moments"]["difference"]),
    )


def _entry(row: dict[str, Any]) -> Entry:
    at = row["json"]["offset"]
    return Entry(
        row["name"],
        row["start"],
        row["stop"],
        tuple(array["offset"] for array in row["arrays"]),
        tuple(np.frombuffer(bytes.fromhex(array["crc32"]), ">u4").astype(np.uint32) for array in row["arrays"]),
        (at, at + row["json"]["bytes"]),
        row["json"]["crc32"],
        row["facts"],
    )


def read_segment(storage: Storage, shard: str, entry: Entry, *, latent_dim: int) -> Segment:
    """A whole segment in one read of SHARD.tar (`shard` with its suffix), bit for bit as it was written: a segment that
    has not changed goes into a new shard without being encoded again.

    Raises InputError that names shard and segment where the bytes are not those that were written.
    """
    (data,) = storage.ranges([Range(shard, entry.start, entry.stop)])
    arrays: list[np.ndarray] = []
    for offset, checksums in zip(entry.offsets, entry.checksums, strict=True):
        at = offset - entry.start
        array = np.frombuffer(data, "<f2", entry.frames * latent_dim, at).reshape(entry.frames, latent_dim)
        if not np.array_equal(block_checksums(array), checksums):
            raise damaged(storage, shard, entry.name, array_names(len(entry.offsets) - 1)[len(arrays)])
        arrays.append(array.astype(np.float16))
    first, last = (place - entry.start for place in entry.facts_range)
    if zlib.crc32(data[first:last]) != entry.facts_crc32:
        raise damaged(storage, shard, entry.name, "json")
    return Segment(entry.name, arrays[0], tuple(arrays[1:]), entry.facts)


def damaged(storage: Storage, shard: str, segment: str, part: str) -> InputError:
    return InputError(
        f"{storage.url}/{shard}: damaged: segment {segment}, {part}: the checksum is not that of what was written;"
        " restyler prepare … --verify makes it anew"
    )


def verify(url: str) -> list[str]:
    """Reads all of a data set: one line for every file that is missing or not as it was written, none if all is well.

    Raises InputError where dataset.json itself can't be used.
    """
    storage = Storage(url)
    dataset = read_dataset(storage)
    problems = []
    for shard in dataset.shards.all():
        try:
            (index,) = read_shard_indices(storage, [shard])
            _check_whole(storage, shard, index, dataset.codec.latent_dim)
        except InputError as error:
            problems.append(str(error))
    return problems


def _check_whole(storage: Storage, shard: ShardInfo, index: ShardIndex, latent_dim: int) -> None:
    (size,) = storage.sizes([shard.name])
    if size not in (shard.bytes, None):
        raise InputError(f"{storage.url}/{shard.name}: {size} bytes; {shard.bytes} were written")
    digest = hashlib.sha256()
    for start in range(0, shard.bytes, CHUNK_BYTES):
        (data,) = storage.ranges([Range(shard.name, start, min(start + CHUNK_BYTES, shard.bytes))])
        digest.update(data)
    if digest.hexdigest() == shard.sha256:
        return
    for entry in index.entries:  # which part it is
        read_segment(storage, shard.name, entry, latent_dim=latent_dim)
    raise InputError(f"{storage.url}/{shard.name}: damaged: its SHA-256 is not the one in {DATASET}")
