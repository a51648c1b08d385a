"""Long tensors that hold no memory: files without a name, whose pages are in memory only while they are worked on.

Everything that is as long as a take lives here while a command works, so that its memory doesn't grow with the take:
tensors made by `empty` inside `kept_in` are maps of temporary files, and loops that go through them block by block let
go behind themselves (`parts`, `let_go`). What is let go stays in the file, and is there again when it is touched.
Outside of `kept_in`, and on other devices than the CPU, tensors are made in memory and nothing here does anything.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeAlias
from weakref import WeakValueDictionary

import numpy as np
import torch

from audio.errors import InputError

Array: TypeAlias = torch.Tensor | np.ndarray

PART_SAMPLES = 1 << 18  # of one channel: 1 MiB
NUMBER_BYTES = 4

# Where files go, and what an error calls that place.
_folder: ContextVar[tuple[Path, Path] | None] = ContextVar("folder of temporary files", default=None)
# The process's maps by their address: which one a tensor, a view of it or an array of numpy's lies in, only that tells.
_maps: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()
_maps_lock = threading.RLock()  # again where collecting garbage ends a tensor's life meanwhile


@contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Inside, `empty` makes tensors whose numbers lie in files in `folder`, or in that which TMPDIR names.

    A folder that is still to be made will lie on the disk of the nearest above it: there the files are until then.
    Not in /tmp where nobody asks for it: on many systems that is memory. The files have no name, so that nothing is
    left of them however the process ends.
    """
    named = os.environ.get("TMPDIR")
    before = _folder.set((Path(named), Path(named)) if named else (existing(folder), folder))
    try:
        yield
    finally:
        _folder.reset(before)


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there already."""
    # Path.is_dir raises for a name that is too long; whoever makes the folder says so.
    return next(one for one in (folder, *folder.absolute().parents) if os.path.isdir(one))  # noqa: PTH112


def empty(*shape: int, like: torch.Tensor | None = None) -> torch.Tensor:
    """A tensor to be filled, of the kind and on the device of `like`; by default float32 on the CPU.

    Its room on the disk is taken at once, so that a full one shows here. Raises InputError where it doesn't fit, and
    for a folder that can't hold such files.
    """
    place, count = _folder.get(), math.prod(shape)
    plain = like is None or (like.dtype == torch.float32 and like.device.type == "cpu")
    if place is None or count == 0 or not plain:
        return torch.empty(shape) if like is None else like.new_empty(shape)
    size = count * NUMBER_BYTES
    try:
        with tempfile.TemporaryFile(dir=place[0]) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a map of a file without room would end the process by SIGBUS
            mapped = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise InputError(
            f"{place[1]}: cannot hold {size / 2**20:.0f} MiB of temporary files: {error.strerror} "
            "(TMPDIR names another folder for them)"
        ) from None
    tensor = torch.frombuffer(mapped, dtype=torch.float32, count=count)
    with _maps_lock:
        _maps[tensor.data_ptr()] = mapped  # the tensor holds it, and frees it
    return tensor.view(shape)


def zeros(*shape: int, like: torch.Tensor | None = None) -> torch.Tensor:
    """`empty`, filled with zeros."""
    found = empty(*shape, like=like)
    if not _in_map(found):
        found.zero_()  # a new file reads as zeros
    return found


def let_go(*arrays: Array) -> None:
    """Frees the memory of the tensors on disk that these are, or are views of; their numbers stay."""
    for array in arrays:
        mapped = _in_map(array)
        if mapped is not None:
            mapped.madvise(mmap.MADV_DONTNEED)


def parts(*arrays: Array, size: int = PART_SAMPLES) -> Iterator[slice]:
    """Slices of the last axis of the first, `size` long, one after the other; behind each, all of them are let go."""
    length = arrays[0].shape[-1]
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
        let_go(*arrays)


def _in_map(array: Array) -> mmap.mmap | None:
    address = array.data_ptr() if isinstance(array, torch.Tensor) else array.__array_interface__["data"][0]
    with _maps_lock:
        maps = list(_maps.items())
    for start, mapped in maps:
        if start <= address < start + len(mapped):
            return mapped
    return None
