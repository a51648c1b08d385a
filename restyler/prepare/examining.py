"""What is heard in a raw take and its mixes: measured once, kept as a record, measured again where a file has changed.

A record holds measures and no judgement, so that other limits need no second look at the audio.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audio.alignment import align
from audio.alignment_reading import aligned
from audio.errors import InputError
from audio.fingerprint import fingerprint
from audio.inspection import PROXY_RATE_HZ, UnwritableProxyError, inspect
from audio.io import make_folder, write_text_atomic
from audio.pair_quality import PairMeter
from audio.proxy import Proxy
from restyler.prepare.matching import Pair
from restyler.worker_pool import worker_pool

FORMAT = 1  # of a record; a change of what is measured raises it
COMPARED_SAMPLES = 30 * PROXY_RATE_HZ  # at once
ATTEMPTS = 2  # at a take whose reading kills the process

Record = dict[str, Any]
Stamp = tuple[int, int, int]  # size, and times of the last change of content and of anything, in ns
SCRATCH = ".examining-"


@dataclass(frozen=True)
class Take:
    """A raw take with its mixes, as files."""

    key: str
    raw: Path
    mixes: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.raw, *self.mixes)

    @property
    def record_name(self) -> str:
        paths = json.dumps([str(path) for path in self.files])
        return f"{hashlib.sha256(paths.encode()).hexdigest()[:32]}.json"


def takes_of(pairs: Sequence[Pair]) -> list[Take]:
    """The takes of all pairs, in the order of their keys."""
    mixes: dict[tuple[str, Path], list[Path]] = {}
    for pair in pairs:
        mixes.setdefault((pair.take, pair.raw), []).append(pair.mix)
    return [Take(key, raw, tuple(sorted(files))) for (key, raw), files in sorted(mixes.items())]


def examine_all(takes: Sequence[Take], folder: Path, *, workers: int) -> Iterator[Take]:
    """Makes a record in `folder` of every take that has none, or one of other files; yields takes as they are done.

    No file stops the others: what is wrong with one stands in its record. A take that kills its process twice has a
    record that says so.
    """
    make_folder(folder)
    if workers == 1:
        for take in takes:
            if not _settled(take, folder):
                examine(take, folder)
            yield take
        return
    waiting = {take.record_name: take for take in takes if not _settled(take, folder)}
    yield from (take for take in takes if take.record_name not in waiting)
    attempts: Counter[str] = Counter()
    while waiting:
        pool = worker_pool(workers)
        try:
            # After a death each goes alone, else one would take innocent ones with it a second time.
            some = list(waiting.values())[: 1 if attempts else None]
            futures: dict[Future[None], Take] = {pool.submit(examine, take, folder): take for take in some}
            for future in as_completed(futures):
                future.result()
                take = waiting.pop(futures[future].record_name)
                attempts.pop(take.record_name, None)
                yield take
        except BrokenProcessPool:
            for take in some:
                if take.record_name not in waiting:
                    continue
                if read_record(take, folder) is not None:
                    yield waiting.pop(take.record_name)
                    continue
                attempts[take.record_name] += 1
                if attempts[take.record_name] >= ATTEMPTS:
                    files = dict.fromkeys(map(str, take.files), _died())
                    _write(take, folder, stamps_of(take.files), files, {})
                    yield waiting.pop(take.record_name)
                break
        finally:
            pool.shutdown(cancel_futures=True)


def _died() -> Record:
    return {"inspection": None, "problem": "the process that read this take or one of its mixes died"}


def examine(take: Take, folder: Path) -> None:
    """Reads a take and its mixes, and writes their record. A file that can't be used gets its reason in it."""
    before = stamps_of(take.files)
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=folder))
    try:
        files: dict[str, Record] = {}
        mixes: dict[str, Record] = {}
        raw_proxy = scratch / "raw"
        files[str(take.raw)] = _inspected(take.raw, raw_proxy)
        for path in take.mixes:
            proxy = scratch / "mix"
            files[str(path)] = _inspected(path, proxy)
            if raw_proxy.exists() and proxy.exists():
                mixes[str(path)] = _compared(raw_proxy, proxy)
            proxy.unlink(missing_ok=True)
        if stamps_of(take.files) == before:  # else it was heard while somebody wrote it: no record
            _write(take, folder, before, files, mixes)
        else:
            forget(take, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _inspected(path: Path, proxy: Path) -> Record:
    try:
        inspection = inspect(path, proxy)
        marks = fingerprint(Proxy(proxy), PROXY_RATE_HZ)
    except UnwritableProxyError:  # it's not the recording's fault
        raise
    except InputError as error:
        proxy.unlink(missing_ok=True)
        return {"inspection": None, "problem": str(error)}
    return {
        "inspection": inspection.to_record(),
        "problem": None,
        "fingerprint": [marks.dtype.str, list(marks.shape), base64.b64encode(marks.tobytes()).decode("ascii")],
    }


def _compared(raw_proxy: Path, mix_proxy: Path) -> Record:
    raw, mix = Proxy(raw_proxy), Proxy(mix_proxy)
    alignment = align(raw, mix, PROXY_RATE_HZ)
    if alignment is None:
        return {"alignment": None, "measures": None}

    def stretch(start_s: float, stop_s: float) -> np.ndarray:
        return mix[round(start_s * PROXY_RATE_HZ) : round(stop_s * PROXY_RATE_HZ)][None]

    meter = PairMeter()
    for region in alignment.regions:
        first, last = math.ceil(region.start_s * PROXY_RATE_HZ), math.floor(region.stop_s * PROXY_RATE_HZ)
        for start in range(first, last, COMPARED_SAMPLES):
            stop = min(start + COMPARED_SAMPLES, last)
            times_s = start / PROXY_RATE_HZ, stop / PROXY_RATE_HZ
            (ours,) = aligned(stretch, alignment, region, *times_s, PROXY_RATE_HZ)
            heard = raw[start:stop]
            meter.update(np.pad(heard, (0, stop - start - len(heard))), ours)
    return {"alignment": _rounded(asdict(alignment)), "measures": _rounded(asdict(meter.result()))}


def _rounded(value: Any, digits: int = 7) -> Any:
    """Far below what any measure can mean (an offset to a 200th of a sample; rates are kept finer): what is beyond
    depends on the number of threads."""
    if isinstance(value, dict):
        return {name: _rounded(inner, 9 if name == "rate" else digits) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(inner, digits) for inner in value]
    return round(value, digits) if isinstance(value, float) else value


def read_record(take: Take, folder: Path) -> Record | None:
    """The record of a take, or None where there is none, or the files have changed since it was made."""
    try:
        record: Record = json.loads((folder / take.record_name).read_text(encoding="utf-8"))
        if record["format"] == FORMAT and record["stamps"] == _plain(stamps_of(take.files)):
            return record
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _settled(take: Take, folder: Path) -> bool:
    """Whether nothing has to be heard again: what could not be read may be readable by now."""
    record = read_record(take, folder)
    return record is not None and all(file["problem"] is None for file in record["files"].values())


def forget(take: Take, folder: Path) -> None:
    """Removes a take's record: it is examined anew by the next call."""
    (folder / take.record_name).unlink(missing_ok=True)


def fingerprint_of(file: Record) -> np.ndarray:
    kind, shape, text = file["fingerprint"]
    return np.frombuffer(base64.b64decode(text), kind).reshape(shape)


def stamps_of(paths: Iterable[Path]) -> dict[Path, Stamp]:
    """Size and times of every file that is there."""
    stamps = {}
    for path in paths:
        with suppress(OSError):
            status = path.stat()
            stamps[path] = status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return stamps


def stamps_in(record: Record | None, paths: Iterable[Path]) -> dict[Path, Stamp]:
    """Those of some files when the record was made."""
    if record is None:
        raise ValueError("there is no record")
    return {path: tuple(record["stamps"][str(path)]) for path in paths}


def _plain(stamps: dict[Path, Stamp]) -> dict[str, list[int]]:
    return {str(path): list(stamp) for path, stamp in stamps.items()}


def _write(
    take: Take, folder: Path, stamps: dict[Path, Stamp], files: dict[str, Record], mixes: dict[str, Record]
) -> None:
    record = {"format": FORMAT, "take": take.key, "stamps": _plain(stamps), "files": files, "mixes": mixes}
    write_text_atomic(folder / take.record_name, json.dumps(record, allow_nan=False) + "\n")
