"""One checkpoint on disk: a folder of state.pt, facts.json (step and score) and SHA256SUMS, which `sha256sum -c` checks
too. Of earlier versions there are some with state.pt alone."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from restyler.command import one_line

STATE, FACTS, SUMS = "state.pt", "facts.json", "SHA256SUMS"


class DamagedError(Exception):
    """A checkpoint that can't be used; the message is the reason."""


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint's name tells."""
    return int(checkpoint.name.removeprefix("step_"))


def write_checkpoint(folder: Path, state: dict[str, Any], *, step: int, score: float | None) -> str:
    """Makes `folder` with everything in it on disk, and returns the SHA-256 of the state. Raises OSError."""
    folder.mkdir(parents=True)
    with (folder / STATE).open("wb") as file:
        sink = _HashingSink(file)
        torch.save(state, sink)  # type: ignore[arg-type]  # it writes and flushes, no more
        if sink.problem is not None:
            raise sink.problem
        file.flush()
        os.fsync(file.fileno())
    digest = sink.hash.hexdigest()
    facts = json.dumps({"step": step, "score": score}).encode()
    _write_synced(folder / FACTS, facts)
    _write_synced(folder / SUMS, _sums(digest, facts))
    sync_folder(folder)
    return digest


def size_bytes(state: dict[str, Any]) -> int:
    """What the state takes on disk."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        sink = _HashingSink(nowhere)
        torch.save(state, sink)  # type: ignore[arg-type]  # it writes and flushes, no more
    return sink.size_bytes


def verify(checkpoint: Path, digest_of: Callable[[Path], str]) -> bool:
    """True for a checkpoint that is as it was written, False for one without checksums.

    Raises DamagedError for any other.
    """
    try:
        if not (checkpoint / SUMS).exists():
            return False
        facts = (checkpoint / FACTS).read_bytes()
        if (checkpoint / SUMS).read_bytes() != _sums(digest_of(checkpoint / STATE), facts):
            raise DamagedError("its checksum does not fit")
    except OSError as error:
        raise DamagedError(f"{Path(error.filename or STATE).name} can't be read: {error.strerror}") from None
    step = json.loads(facts)["step"]
    if step != step_of(checkpoint):
        raise DamagedError(f"it is the checkpoint of step {step}")
    return True


def claimed_score(checkpoint: Path) -> float | None:
    """The score that facts.json tells, if any, whether or not the checkpoint is intact."""
    try:
        score = json.loads((checkpoint / FACTS).read_bytes())["score"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return float(score) if isinstance(score, int | float) else None


def read_state(checkpoint: Path, digest_of: Callable[[Path], str]) -> dict[str, Any]:
    """The state of an intact checkpoint, on the CPU. Only tensors and plain values are unpickled.

    Raises DamagedError for one that is not as it was written, or can't be loaded.
    """
    checked = verify(checkpoint, digest_of)
    try:
        # Mapped, all processes of a machine share one copy, and those that move it to a GPU keep none.
        state: dict[str, Any] = torch.load(checkpoint / STATE, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many types for damaged archives
        unchecked = "" if checked else "it has no checksum, and "
        raise DamagedError(f"{unchecked}{STATE} can't be loaded: {one_line(error)[:200]}") from None
    return state


def sync_folder(folder: Path) -> None:
    """Has the names in a folder on disk: after a rename, a power cut could else bring back the old ones."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has no such thing
            raise
    finally:
        os.close(descriptor)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sums(state_digest: str, facts: bytes) -> bytes:
    return f"{state_digest}  {STATE}\n{hashlib.sha256(facts).hexdigest()}  {FACTS}\n".encode()


class _HashingSink:
    """A file for torch.save that hashes what passes through, so that nothing has to be read again.

    A write that fails is kept as `problem`, and what comes after is swallowed: torch's zip writer answers an exception
    with one of its own, which no longer tells that the disk is full.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.size_bytes = 0
        self.problem: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        count = len(data)
        if self.problem is None:
            self.hash.update(data)
            try:
                self._file.write(data)
            except OSError as error:
                self.problem = error
        self.size_bytes += count
        return count

    def flush(self) -> None:
        """torch.save asks for it; `write_checkpoint` does more."""
