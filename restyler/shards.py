"""Shards of a prepared data set: written once, in order, with the same bytes for the same content.

A shard is a plain tar file by the naming of WebDataset, where a sample's key is a name up to its first dot:

    NAME.raw.npy   NAME.mix0.npy   NAME.mix1.npy  …   float16 [frames latent], as the codec's network gives them
    NAME.json                                         the segment's facts

Beside SHARD.tar lies SHARD.json: where every array starts, a checksum for each block of its frames, the facts once
more, and the moments of all latents. With it a stretch of any segment is one range read, checked on arrival; opening a
set reads no tar at all, and statistics need no pass over the data. Whatever reads tar files can do without it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audio.errors import InputError
from audio.io import make_folder
from restyler.dataset_index import FORMAT, FileFacts, ShardInfo
from restyler.moments import Moments

BLOCK_FRAMES = 128  # under one checksum: a crop reads 63 frames too many at either end on average
UNFINISHED = ".part"
MAX_NAME = 80  # characters; a name in a tar header of the plainest kind (ustar) has room for 100 with its suffix
_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}")


@dataclass(frozen=True)
class Segment:
    """A stretch of one take with its mixes, as latents, each float16 [frames latent] and of the same shape.

    facts: JSON. `key` (of the take), `start_s` (in the take), `frames`, and in `mixes` for every mix `key`, `style` (or
    null), `chain` (or null) and `controls` with the measured features of both sides, {"raw": {…}, "mix": {…}}, null for
    what is undefined; optionally `audio_hash` of the take's recording, by which leaks between splits are found.
    Whatever else is there is kept.
    """

    name: str
    raw: np.ndarray
    mixes: tuple[np.ndarray, ...]
    facts: dict[str, Any]

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        return (self.raw, *self.mixes)


def write_shard(folder: Path, stem: str, segments: Iterable[Segment], *, frame_rate_hz: float) -> ShardInfo:
    """Writes FOLDER/STEM.tar and STEM.json from `segments`, one after the other: memory holds one segment at a time.

    The bytes depend on the segments and their order alone. Where STEM.tar is there, both are complete and on disk: a
    process that is killed leaves hidden unfinished files, and at most a STEM.json that the next attempt replaces.

    Raises InputError where a file can't be written (a full disk), ValueError for segments that can't be, and for none.
    """
    if not _NAME.fullmatch(stem):
        raise ValueError(f"a shard's name is 1 to {MAX_NAME} letters, digits, _ and -, not {stem!r}")
    make_folder(folder)
    tar, index = folder / f"{stem}.tar", folder / f"{stem}.json"
    parts = [path.with_name(f".{path.name}{UNFINISHED}") for path in (tar, index)]
    try:
        with _told(tar):
            handle = parts[0].open("wb")
        try:
            content = _write_tar(handle, tar, segments)
        finally:
            with suppress(OSError):  # all was flushed, or the failure is known already
                handle.close()
        content["seconds"] = content.pop("frames") / frame_rate_hz
        content["content_sha256"] = _checksum(content)
        data = _index_bytes(content)
        with _told(index), parts[1].open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        with _told(tar):
            tar.unlink(missing_ok=True)  # an older one: it must not stand beside another's index
            parts[1].replace(index)
            parts[0].replace(tar)  # last: where it is, the index is
            _sync_folder(folder)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return _info(stem, json.loads(data), data)


def finished_shard(folder: Path, stem: str, *, whole: bool = False) -> ShardInfo | None:
    """What `write_shard` gave for FOLDER/STEM.tar, or None where that is missing, unfinished or of another format, or
    where its index is damaged. whole: or where the tar file is, which means reading all of it."""
    tar, index = folder / f"{stem}.tar", folder / f"{stem}.json"
    try:
        data, size = index.read_bytes(), tar.stat().st_size
        content = json.loads(data)
        if (content["format"], content["bytes"]) != (FORMAT, size) or content["content_sha256"] != _checksum(content):
            return None
        if whole:
            with tar.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != content["sha256"]:
                    return None
        return _info(stem, content, data)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checksum(content: dict[str, Any]) -> str:
    """SHA-256 of what an index says, but for this."""
    return hashlib.sha256(_json({**content, "content_sha256": None})).hexdigest()


def _info(stem: str, content: dict[str, Any], index: bytes) -> ShardInfo:
    """What dataset.json says of a shard, from the content and the bytes of its index."""
    return ShardInfo(
        name=f"{stem}.tar",
        bytes=content["bytes"],
        sha256=content["sha256"],
        index=FileFacts(name=f"{stem}.json", bytes=len(index), sha256=hashlib.sha256(index).hexdigest()),
        segments=len(content["segments"]),
        seconds=content["seconds"],
    )


def remove_unfinished(folder: Path) -> None:
    """Deletes what killed processes left in `folder`; no other process may be writing there."""
    with _told(folder):
        for part in folder.glob(f".*{UNFINISHED}"):
            part.unlink(missing_ok=True)


class _Tar:
    """A tar file that is written front to back, and knows its position and its checksum at any moment."""

    def __init__(self, handle: io.BufferedIOBase, shown: Path) -> None:
        self.handle, self.shown = handle, shown
        self.position, self.digest = 0, hashlib.sha256()

    def add(self, name: str, data: bytes) -> int:
        """Appends a member; returns where its data start. No date, owner or mode of this machine gets in."""
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        self._write(entry.tobuf(tarfile.USTAR_FORMAT))
        start = self.position
        self._write(data)
        self._write(bytes(-len(data) % tarfile.BLOCKSIZE))
        return start

    def finish(self) -> None:
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        with _told(self.shown):
            self.handle.flush()
            os.fsync(self.handle.fileno())

    def _write(self, data: bytes) -> None:
        with _told(self.shown):
            self.handle.write(data)
        self.digest.update(data)
        self.position += len(data)


def _write_tar(handle: io.BufferedIOBase, shown: Path, segments: Iterable[Segment]) -> dict[str, Any]:
    """Writes all segments; returns what the index says of them."""
    tar = _Tar(handle, shown)
    latents: Moments | None = None
    difference: Moments | None = None
    rows: dict[str, dict[str, Any]] = {}
    frames = 0
    for segment in segments:
        check_segment(segment)
        if segment.name in rows:
            raise ValueError(f"two segments are called {segment.name}")
        rows[segment.name] = _add(tar, segment)
        both, apart = segment_moments(segment)
        latents = latents + both if latents else both
        difference = difference + apart if difference else apart
        frames += len(segment.raw)
    if latents is None or difference is None:
        raise ValueError(f"{shown.stem}: a shard holds at least one segment")
    tar.finish()
    return {
        "format": FORMAT,
        "bytes": tar.position,
        "sha256": tar.digest.hexdigest(),
        "frames": frames,
        "block_frames": BLOCK_FRAMES,
        "moments": {"latents": latents.to_json(), "difference": difference.to_json()},
        "segments": list(rows.values()),
    }


def _add(tar: _Tar, segment: Segment) -> dict[str, Any]:
    """Appends a segment; returns its row of the index."""
    start = tar.position
    arrays = []
    for name, array in zip(array_names(len(segment.mixes)), segment.arrays, strict=True):
        data = np.ascontiguousarray(array, dtype="<f2")
        encoded = io.BytesIO()
        np.lib.format.write_array(encoded, data, version=(1, 0), allow_pickle=False)
        offset = tar.add(f"{segment.name}.{name}.npy", encoded.getvalue()) + encoded.tell() - data.nbytes
        arrays.append({"offset": offset, "crc32": block_checksums(data).astype(">u4").tobytes().hex()})
    facts = _json(segment.facts)
    place = tar.add(f"{segment.name}.json", facts)
    return {
        "name": segment.name,
        "start": start,
        "stop": tar.position,
        "arrays": arrays,
        "json": {"offset": place, "bytes": len(facts), "crc32": zlib.crc32(facts)},
        "facts": segment.facts,
    }


def array_names(mixes: int) -> list[str]:
    """raw, mix0, mix1 …"""
    return ["raw", *(f"mix{number}" for number in range(mixes))]


def block_checksums(data: np.ndarray) -> np.ndarray:
    """CRC-32 of every BLOCK_FRAMES frames of little-endian float16 [frames latent], the last block perhaps shorter."""
    blocks = (data[at : at + BLOCK_FRAMES].data for at in range(0, len(data), BLOCK_FRAMES))
    return np.array([zlib.crc32(block) for block in blocks], np.uint32)


def segment_moments(segment: Segment) -> tuple[Moments, Moments]:
    """Of raw latents and mixes pooled, and of mix − raw. Every segment counts 1, however long, and its take as much as
    all its mixes together: training shows each segment once an epoch, a crop of it, with one of its mixes."""
    raw = segment.raw.astype(np.float64)
    share = 1 / len(raw) / len(segment.mixes)
    latents, apart = Moments.of(raw, weight=1 / len(raw)), []
    for mix in segment.mixes:
        latents = latents + Moments.of(mix, weight=share)
        apart.append(Moments.of(mix - raw, weight=share))
    difference = apart[0]
    for part in apart[1:]:
        difference = difference + part
    return latents, difference


def check_segment(segment: Segment) -> None:
    """Raises ValueError for what a shard can't hold."""
    name, facts = segment.name, segment.facts
    if not _NAME.fullmatch(name):
        raise ValueError(f"a segment's name is 1 to {MAX_NAME} letters, digits, _ and -, not {name!r}")
    for array in segment.arrays:
        if array.dtype != np.float16 or array.ndim != 2 or array.shape != segment.raw.shape or array.size == 0:
            raise ValueError(
                f"{name}: arrays are float16 [frames latent] of one shape, not {array.dtype} {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: latents are not finite")
    if not segment.mixes:
        raise ValueError(f"{name}: a segment has at least one mix")
    try:
        sound = (
            isinstance(facts["key"], str)
            and isinstance(facts["start_s"], (int, float))
            and facts["frames"] == len(segment.raw)
            and len(facts["mixes"]) == len(segment.mixes)
            and all(_sound_mix(mix) for mix in facts["mixes"])
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{name}: facts lack {error}") from None
    if not sound:
        raise ValueError(f"{name}: facts of another form, or of another segment: {facts}")


def _sound_mix(mix: Mapping[str, Any]) -> bool:
    texts = isinstance(mix["key"], str) and all(isinstance(mix[name], (str, type(None))) for name in ("style", "chain"))
    measured = [value for side in ("raw", "mix") for value in mix["controls"][side].values()]
    return texts and all(value is None or isinstance(value, (int, float)) for value in measured)


def _index_bytes(content: dict[str, Any]) -> bytes:
    """JSON with a line for each segment."""
    rows = content.pop("segments")
    head = _json(content).removesuffix(b"}")
    return head + b', "segments": [\n' + b",\n".join(map(_json, rows)) + b"\n]}\n"


def _json(value: Any) -> bytes:
    """The same bytes whatever the order of keys; ValueError for NaN and infinity, which JSON does not know."""
    return json.dumps(value, sort_keys=True, allow_nan=False).encode()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
