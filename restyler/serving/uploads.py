"""A take on its way in: to disk piece by piece, its header before its samples, all of it decoded once."""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from starlette.requests import ClientDisconnect

from audio.errors import InputError
from audio.io import Header, blocks, header, require_signal
from audio.meters import LoudnessMeter
from audio.streams import resampled
from audio.waveform import Waveform
from restyler.command import QUIETEST_LUFS
from restyler.serving.limits import Limits
from restyler.serving.refusals import RefusedError

PIECE_BYTES = 1 << 20  # written at once
PACE_AFTER_S = 10.0
OVERVIEW_POINTS = 4000


@dataclass(frozen=True)
class Examined:
    """header: what the file proved to be. overview: lowest and highest sample of each of its parts. peak: of all."""

    header: Header
    overview: dict[str, list[float]]
    peak: float


async def receive(stream: AsyncIterator[bytes], promised: str | None, path: Path, limits: Limits) -> int:
    """Writes a body to `path`, synced to disk; its size in bytes.

    promised: the header Content-Length. Raises RefusedError where it is too large (413), by its own word before it is
    read, too slow (408) or broken off (400).
    """
    too_large = RefusedError(413, f"a take of up to {limits.bytes} bytes is taken", reason="too_large")
    if promised is not None and (not promised.isdecimal() or int(promised) > limits.bytes):
        raise too_large
    started_s, size, pending = time.monotonic(), 0, bytearray()
    with path.open("xb") as file:
        try:
            async with asyncio.timeout(limits.upload_s) as whole:
                pieces = aiter(stream)
                while True:
                    async with asyncio.timeout(PACE_AFTER_S):
                        try:
                            piece = await anext(pieces)
                        except StopAsyncIteration:
                            break
                    size += len(piece)
                    pending += piece
                    if size > limits.bytes:
                        raise too_large
                    elapsed_s = time.monotonic() - started_s
                    if elapsed_s > PACE_AFTER_S and size < elapsed_s * limits.pace_bytes_s:
                        raise TimeoutError
                    if len(pending) >= PIECE_BYTES:
                        await asyncio.to_thread(file.write, bytes(pending))
                        pending.clear()
        except TimeoutError as error:
            late = f"did not come in within {limits.upload_s:g} s" if whole.expired() else "comes in too slowly"
            raise RefusedError(408, f"the take {late}", reason="too_slow") from error
        except ClientDisconnect as error:
            raise RefusedError(400, "the take broke off", reason="broken_off") from error
        await asyncio.to_thread(_finish, file, bytes(pending))
    return size


def _finish(file: Any, rest: bytes) -> None:
    file.write(rest)
    file.flush()
    os.fsync(file.fileno())


def examine(path: Path, limits: Limits, sample_rate_hz: int) -> Examined:
    """What lies in a file that is to be a take at the model's rate, in bounded memory: nothing is decoded before its
    header is within the limits.

    Raises InputError for what can't be a take.
    """
    told = header(path)
    if told.duration_s > limits.duration_s:
        raise InputError(f"{path}: {told.duration_s:.1f} s long; up to {limits.duration_s:g} s are taken")
    if told.frames * told.channels > limits.samples:
        raise InputError(f"{path}: {told.frames * told.channels} samples; up to {limits.samples} are taken")
    overview = Overview(told.frames)
    meter = LoudnessMeter(sample_rate_hz)

    def passing() -> Any:
        for block in blocks(path):
            overview.feed(block.samples.numpy())
            yield block

    for block in resampled(passing(), sample_rate_hz):
        if block.samples.shape[1]:
            meter.feed(block.samples.numpy())
    require_signal(Waveform(torch.tensor([[overview.peak]]), told.sample_rate_hz), path)
    loudness_lufs = meter.lufs()
    if loudness_lufs < QUIETEST_LUFS:
        found = "silent: below -70 LUFS" if loudness_lufs == -math.inf else f"too quiet: {loudness_lufs:.1f} LUFS"
        raise InputError(f"{path}: {found}; at least {QUIETEST_LUFS} LUFS needed")
    real = Header(told.sample_rate_hz, told.channels, overview.frames)
    return Examined(real, overview.points(), overview.peak)


class Overview:
    """Lowest and highest sample, over all channels, of up to OVERVIEW_POINTS equal parts of `promised` frames."""

    def __init__(self, promised: int) -> None:
        self.frames, self._promised = 0, promised
        points = min(promised, OVERVIEW_POINTS)
        self._low, self._high = np.full(points, np.inf), np.full(points, -np.inf)

    def feed(self, samples: np.ndarray) -> None:
        """samples: [channels samples]."""
        places = self.frames + np.arange(samples.shape[1])
        parts = np.minimum(places * len(self._low) // self._promised, len(self._low) - 1)
        np.minimum.at(self._low, parts, samples.min(axis=0))
        np.maximum.at(self._high, parts, samples.max(axis=0))
        self.frames += samples.shape[1]

    @property
    def peak(self) -> float:
        heard = self._low <= self._high
        return float(max(np.abs(self._low[heard]).max(), np.abs(self._high[heard]).max()))

    def points(self) -> dict[str, list[float]]:
        heard = self._low <= self._high  # a damaged file may end before its header says
        sides = {"low": self._low[heard], "high": self._high[heard]}
        return {name: [round(float(value), 5) for value in side] for name, side in sides.items()}


def reduced(overview: dict[str, list[float]], points: int) -> dict[str, list[float]]:
    """An overview in fewer parts, or as it is where it has no more."""
    count = len(overview["low"])
    if points >= count:
        return overview
    edges = np.arange(points) * count // points
    low, high = np.minimum.reduceat(overview["low"], edges), np.maximum.reduceat(overview["high"], edges)
    return {"low": low.tolist(), "high": high.tolist()}


def overview_text(examined: Examined) -> str:
    return json.dumps(examined.overview | {"peak": examined.peak})
