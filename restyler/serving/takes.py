"""Takes as their owners see them: taken in, listed, heard, deleted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import soundfile

from audio.errors import InputError
from audio.io import blocks
from audio.streams import resampled
from restyler.serving import stored_takes
from restyler.serving.archive import safe_stem
from restyler.serving.jobs import require_bytes
from restyler.serving.limits import Limits
from restyler.serving.metrics import Metrics
from restyler.serving.places import Places, name_take, sync_folder
from restyler.serving.refusals import RefusedError
from restyler.serving.storage import Storage, fresh_id
from restyler.serving.stored_takes import StoredTake
from restyler.serving.uploads import examine, overview_text, receive, reduced

DECODED_AT_ONCE = 2  # uploads; the others wait
BROWSER_RATE_HZ = 48_000
AGAIN_S = 5  # after which one more upload may be tried


class Takes:
    def __init__(
        self, storage: Storage, places: Places, limits: Limits, metrics: Metrics, *, sample_rate_hz: int
    ) -> None:
        self._storage, self._places, self._limits, self._metrics = storage, places, limits, metrics
        self._sample_rate_hz = sample_rate_hz
        self._arriving: dict[str, list[int]] = {}  # bytes of the takes that come in now, by owner; on the event loop
        self._decoding = anyio.CapacityLimiter(DECODED_AT_ONCE)

    async def add(self, owner: str, name: str, stream: AsyncIterator[bytes], promised: str | None) -> dict[str, Any]:
        """A take from a body. Raises RefusedError as `receive` does, 422 for what is no take, 507 over the quota."""
        most = self._limits.bytes
        expected = int(promised) if promised is not None and promised.isdecimal() else most
        async with self._reserved(owner, expected if expected <= most else 0):  # or the size alone is told
            return await self._received(owner, name, stream, promised)

    async def _received(
        self, owner: str, name: str, stream: AsyncIterator[bytes], promised: str | None
    ) -> dict[str, Any]:
        folder = await anyio.to_thread.run_sync(self._places.fresh_upload)
        identity = fresh_id()
        try:
            audio = folder / f"{identity}.audio"
            size = await receive(stream, promised, audio, self._limits)
            return await anyio.to_thread.run_sync(
                self._take_in, owner, name, identity, folder, size, limiter=self._decoding
            )
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._places.throw_away, folder)

    @contextlib.asynccontextmanager
    async def _reserved(self, owner: str, size: int) -> AsyncIterator[None]:
        """Room for one take more of an owner while it comes in. Raises RefusedError: 429 for one too many at once, 507
        over the quota, what else comes in meanwhile included."""
        coming = self._arriving.setdefault(owner, [])
        if len(coming) >= self._limits.uploads:
            line = f"{self._limits.uploads} takes of a key may come in at once"
            raise RefusedError(429, line, retry_after_s=AGAIN_S, reason="uploads")
        coming.append(size)  # before the first await: nobody else gets the same room
        try:
            await anyio.to_thread.run_sync(self._require_bytes, owner, sum(coming))
            yield
        finally:
            coming.remove(size)
            if not coming and self._arriving.get(owner) is coming:
                del self._arriving[owner]

    def _require_bytes(self, owner: str, more: int) -> None:
        with self._storage.reading() as connection:
            require_bytes(connection, owner, more, self._limits)

    def _take_in(self, owner: str, name: str, identity: str, folder: Path, size: int) -> dict[str, Any]:
        audio = folder / f"{identity}.audio"
        try:
            found = examine(audio, self._limits, self._sample_rate_hz)
        except InputError as error:
            raise RefusedError(422, str(error).replace(str(audio), "the take"), reason="not_a_take") from error
        (folder / "overview.json").write_text(overview_text(found))
        name_take(folder, audio.name, safe_stem(name))
        take = StoredTake(
            id=identity,
            owner=owner,
            name=name,
            created_s=self._storage.clock(),
            bytes=size,
            duration_s=found.header.duration_s,
            sample_rate_hz=found.header.sample_rate_hz,
            channels=found.header.channels,
        )
        with self._storage.writing() as connection:
            require_bytes(connection, owner, size, self._limits)
            sync_folder(folder)
            folder.rename(self._places.take(identity))
            sync_folder(self._places.take(identity).parent)
            stored_takes.add(connection, take)
        self._metrics.add("uploads")
        self._metrics.add("upload_bytes", size)
        return take.answer()

    def every(self, owner: str) -> list[dict[str, Any]]:
        with self._storage.reading() as connection:
            return [take.answer() for take in stored_takes.every(connection, owner)]

    def one(self, owner: str, identity: str) -> StoredTake:
        with self._storage.reading() as connection:
            return stored_takes.one(connection, owner, identity)

    def original(self, owner: str, identity: str) -> tuple[StoredTake, Path]:
        take = self.one(owner, identity)
        return take, self._places.audio(identity)

    def wav(self, owner: str, identity: str) -> tuple[StoredTake, Path]:
        """At 48 kHz and 16 bit, as every browser plays it; a take over full scale is brought under it by one gain."""
        take, path = self.one(owner, identity), self._places.use_derived(f"{identity}.wav")
        if path is None:
            path = self._places.derived(f"{identity}.wav")
            peak = json.loads(self._places.overview(identity).read_text())["peak"]
            write_wav(self._places.audio(identity), path, gain=min(1.0, 1 / peak))
        return take, path

    def overview(self, owner: str, identity: str, points: int) -> dict[str, list[float]]:
        self.one(owner, identity)
        kept = json.loads(self._places.overview(identity).read_text())
        return reduced({"low": kept["low"], "high": kept["high"]}, points)

    def remove(self, owner: str, identity: str) -> None:
        """Raises RefusedError (409) where a waiting or running job needs it."""
        with self._storage.writing() as connection:
            stored_takes.one(connection, owner, identity)
            if stored_takes.in_use(connection, "take", identity):
                raise RefusedError(409, "a waiting or running job needs this take")
            stored_takes.remove(connection, identity)
        self._places.throw_away(self._places.take(identity))
        self._places.forget_derived(identity)


def write_wav(source: Path, target: Path, *, gain: float) -> None:
    """In bounded memory, whole or not at all."""
    temporary = target.with_name(f".{fresh_id()}.tmp")
    sink: soundfile.SoundFile | None = None
    try:
        for block in resampled(blocks(source), BROWSER_RATE_HZ):
            if sink is None:
                channels = block.samples.shape[0]
                sink = soundfile.SoundFile(temporary, "w", BROWSER_RATE_HZ, channels, "PCM_16", format="WAV")
            sink.write(block.samples.numpy().T * gain)
        if sink is not None:
            sink.close()
        temporary.replace(target)
    finally:
        if sink is not None:
            sink.close()
        temporary.unlink(missing_ok=True)
