"""A prepared data set as training reads it: stretches of latents by number, each checked when it arrives.

Why not a stream of shards, as WebDataset reads them? A stream mixes by a buffer, so what comes next depends on how many
processes and workers read, and going on after a stop means reading all that came before. Here every shard has an index,
a stretch of any segment is one range read, and example n of a run is a function of the seed and n alone: the shuffle is
one over the whole set, each segment comes once per epoch however many processes share the work, and a resumed run just
begins at its example. The shards stay plain WebDataset tar files, for those who want to stream them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audio.errors import InputError
from audio.features import FEATURES
from restyler.dataset_index import ShardInfo
from restyler.moments import Moments, together
from restyler.pairs import SPLITS
from restyler.shard_reading import Entry, damaged, read_dataset, read_shard_indices
from restyler.shards import BLOCK_FRAMES, array_names, block_checksums
from restyler.storage import Range, Storage


@dataclass(frozen=True)
class Stretch:
    """Frames start … stop − 1 of one array of a segment: 0 is the raw take, 1 + m is mix m."""

    segment: int
    array: int
    start: int
    stop: int


class PreparedSet:
    """A data set in a folder or at any URL that fsspec knows. Raises InputError where there is none."""

    def __init__(self, url: str) -> None:
        self.storage = Storage(url)
        self.dataset = read_dataset(self.storage)

    @property
    def url(self) -> str:
        return self.storage.url

    def split(self, name: str) -> PreparedSplit:
        """Opens one split. Raises InputError for a shard or index that is missing, of another size, or damaged."""
        return PreparedSplit(self.storage, self.dataset.shards.of(name), latent_dim=self.dataset.codec.latent_dim)

    def digest(self) -> str:
        """A hash of everything that training depends on: the latents and facts of every segment, and their order."""
        shards = [[(shard.sha256, shard.index.sha256) for shard in self.dataset.shards.of(split)] for split in SPLITS]
        facts = (self.dataset.codec, self.dataset.loudness_lufs, shards)
        return hashlib.sha256(repr(facts).encode()).hexdigest()


class PreparedSplit:
    """The segments of one split, and of every mix its style, its chain and what was measured.

    What is kept of a segment are numbers in arrays, some tens of bytes and four for every block of frames: a large set
    costs little, and worker processes share it with their parent.

    frames, take [segments]: length, and which of `takes`. start_s [segments]: where in the take it starts.
    first_row [segments + 1]: the mixes of segment i are the rows first_row[i] … first_row[i + 1] − 1 of row_segment, of
    style (−1 for none, else which of `styles`) and of controls [rows features] (mix − raw, NaN where undefined).
    take_features [segments features]: of the raw takes.
    takes: key of a take → hash of its recording, or None. latents, difference: moments of raw and mixes pooled, and of
    mix − raw; None for a split without segments.
    """

    def __init__(self, storage: Storage, shards: Sequence[ShardInfo], *, latent_dim: int) -> None:
        self.storage, self.latent_dim = storage, latent_dim
        self.shards = [shard.name for shard in shards]
        self._check_sizes(shards)
        self.takes: dict[str, str | None] = {}
        self.styles: list[str] = []
        columns = _Columns(self.takes)
        moments: list[tuple[Moments, Moments]] = []
        for number, index in enumerate(read_shard_indices(storage, shards)):
            moments.append((index.latents, index.difference))
            for entry in index.entries:
                columns.add(number, entry)
        self.latents = together(latents for latents, _ in moments) if moments else None
        self.difference = together(difference for _, difference in moments) if moments else None
        self.styles = list(columns.styles)
        self.frames = np.array(columns.frames, np.int32)
        self.take = np.array(columns.take, np.int32)
        self.start_s = np.array(columns.start_s, np.float64)
        self.first_row = np.cumsum([0, *columns.mixes], dtype=np.int32)
        self.row_segment = np.repeat(np.arange(len(self), dtype=np.int32), columns.mixes)
        self.style = np.array(columns.style, np.int32)
        self.controls = np.array(columns.controls, np.float32).reshape(-1, len(FEATURES))
        self.take_features = np.array(columns.take_features, np.float32).reshape(-1, len(FEATURES))
        self._names = np.array(columns.names, np.bytes_)
        self._shard = np.array(columns.shard, np.int32)
        self._offsets = np.array(columns.offsets, np.int64)
        self._checksums = np.concatenate([np.zeros(0, np.uint32), *columns.checksums])
        blocks = -(-self.frames.astype(np.int64) // BLOCK_FRAMES)
        self._first_checksum = np.cumsum([0, *(blocks * (1 + np.array(columns.mixes, np.int64)))])
        self._chain = np.array(columns.chain, np.int32)
        self._by_chain = np.argsort(self._chain, kind="stable").astype(np.int32)
        self._chain_ends = np.cumsum(np.bincount(self._chain, minlength=len(columns.chains)))

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are kept."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))

    def same_chain(self, row: int) -> np.ndarray:
        """All rows that sound like this one, itself among them, [rows]: those of its chain, or, without a chain, those
        of the same mix."""
        chain = self._chain[row]
        stop = self._chain_ends[chain]
        return self._by_chain[self._chain_ends[chain - 1] if chain else 0 : stop]

    def read(self, wanted: Sequence[Stretch]) -> list[np.ndarray]:
        """Raw latents of every stretch, float32 [frames latent], all asked for at once.

        Raises InputError that names the shard, and the segment where its bytes are not those that were written.
        """
        width = 2 * self.latent_dim
        ranges, outer = [], []
        for part in wanted:
            first = part.start // BLOCK_FRAMES * BLOCK_FRAMES  # whole blocks: checksums are theirs
            stop = min(-(-part.stop // BLOCK_FRAMES) * BLOCK_FRAMES, int(self.frames[part.segment]))
            # A segment has one array more than mixes: its raw take.
            at = int(self._offsets[self.first_row[part.segment] + part.segment + part.array])
            shard = self.shards[self._shard[part.segment]]
            ranges.append(Range(shard, at + width * first, at + width * stop))
            outer.append(first)
        found = []
        for part, first, place, data in zip(wanted, outer, ranges, self.storage.ranges(ranges), strict=True):
            array = np.frombuffer(data, "<f2").reshape(-1, self.latent_dim)
            if not np.array_equal(block_checksums(array), self._expected(part)):
                name = array_names(part.array)[part.array]
                raise damaged(self.storage, place.name, self._names[part.segment].decode(), name)
            found.append(array[part.start - first : part.stop - first].astype(np.float32))
        return found

    def _expected(self, part: Stretch) -> np.ndarray:
        """The checksums of the blocks that hold a stretch."""
        blocks = -(-int(self.frames[part.segment]) // BLOCK_FRAMES)
        first = int(self._first_checksum[part.segment]) + part.array * blocks
        return self._checksums[first + part.start // BLOCK_FRAMES : first + -(-part.stop // BLOCK_FRAMES)]

    def _check_sizes(self, shards: Sequence[ShardInfo]) -> None:
        for shard, size in zip(shards, self.storage.sizes(self.shards), strict=True):
            if size not in (shard.bytes, None):
                raise InputError(f"{self.storage.url}/{shard.name}: {size} bytes; {shard.bytes} were written")


class _Columns:
    """The segments of all shards, gathered one by one."""

    def __init__(self, takes: dict[str, str | None]) -> None:
        self.takes = takes
        self.take_numbers: dict[str, int] = {}
        self.styles: dict[str, int] = {}
        self.chains: dict[tuple[str, str], int] = {}
        self.names: list[str] = []
        self.shard: list[int] = []
        self.frames: list[int] = []
        self.take: list[int] = []
        self.start_s: list[float] = []
        self.mixes: list[int] = []
        self.offsets: list[int] = []
        self.checksums: list[np.ndarray] = []
        self.style: list[int] = []
        self.chain: list[int] = []
        self.controls: list[list[float]] = []
        self.take_features: list[list[float]] = []

    def add(self, shard: int, entry: Entry) -> None:
        facts = entry.facts
        self.takes.setdefault(facts["key"], facts.get("audio_hash"))
        self.names.append(entry.name)
        self.shard.append(shard)
        self.frames.append(entry.frames)
        self.take.append(_number(self.take_numbers, facts["key"]))
        self.start_s.append(facts["start_s"])
        self.mixes.append(len(facts["mixes"]))
        self.offsets += entry.offsets
        self.checksums += entry.checksums
        for mix in facts["mixes"]:
            self.style.append(-1 if mix["style"] is None else _number(self.styles, mix["style"]))
            chain = ("mix", mix["key"]) if mix["chain"] is None else ("chain", mix["chain"])
            self.chain.append(_number(self.chains, chain))
            self.controls.append([_difference(mix["controls"], name) for name in FEATURES])
        measured = facts["mixes"][0]["controls"]["raw"]  # the raw take is the same for all
        self.take_features.append([float("nan") if measured.get(name) is None else measured[name] for name in FEATURES])


def _number(numbers: dict[Any, int], name: Any) -> int:
    return numbers.setdefault(name, len(numbers))


def _difference(measured: dict[str, dict[str, float | None]], name: str) -> float:
    """mix − raw, NaN where either is undefined."""
    raw, mix = (measured[side].get(name) for side in ("raw", "mix"))
    return float("nan") if raw is None or mix is None else mix - raw
