"""The run folder: whose run it is, its metrics, and checkpoints that are complete or not there."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from audio.errors import InputError
from audio.io import make_folder, write_text_atomic
from restyler.checkpoint_files import (
    STATE,
    DamagedError,
    claimed_score,
    read_state,
    size_bytes,
    step_of,
    sync_folder,
    verify,
    write_checkpoint,
)
from restyler.differences import covered, differences

# What a resumed run may have otherwise than the run it goes on with. Up to rounding, what was learned and what will be
# is the same function of seed and step.
CHANGEABLE_ON_RESUME = (
    "training.save_every",  # what lies on disk …
    "training.keep",
    "training.workers",  # … who reads the examples: the batch of a step depends on seed and step alone …
    "training.accumulation",  # … how a step is computed: the same sums, in other parts
    "training.gradient_checkpointing",
    "training.compile",
    "validation.every",  # … when one looks …
    "tracking",  # … who is told …
    "data.cache",  # … and where things lie: what is cached is named by its content
)

UNFINISHED = ".unfinished"
DAMAGED = ".damaged"


class RunFolder:
    """RUN/config.json, metrics.jsonl, checkpoints/step_000123/ and pipeline/."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._metrics = path / "metrics.jsonl"
        self._digests: dict[Path, tuple[tuple[int, ...], str]] = {}  # signature and SHA-256 of a file

    def check(self, what: str, facts: dict[str, Any], *, changeable: Collection[str] = ()) -> list[str]:
        """Checks that `facts` may be claimed, and writes nothing: a mistake found later must not bind the folder.

        changeable: dotted keys that may differ from those of RUN/<what>.json, each with all that lies below it. What
        does differ of them is returned, as lines «key: old → new». Raises InputError for a folder that can't be used,
        and for other differences, with every one of them.
        """
        there = _nearest_existing(self.path)
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            raise InputError(f"{self.path}: not usable as a run folder: nothing can be written into {there}")
        kept = self.path / f"{what}.json"
        if not os.path.exists(kept):  # noqa: PTH110
            return []
        try:
            before = json.loads(kept.read_text(encoding="utf-8"))
            if not isinstance(before, dict):
                raise ValueError("no JSON object")
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path}: not usable as a run folder: {kept.name} can't be read: {error}") from None
        changes = differences(before, facts)
        refused = [f"{key}: {change}" for key, change in changes.items() if not covered(key, changeable)]
        if refused:
            hint = f" (what may change: {', '.join(changeable)})" if changeable else ""
            raise InputError(
                f"{self.path}: this run was started with another {what};"
                f" choose another --run-dir or undo {'; '.join(refused)}{hint}"
            )
        return [f"{key}: {change}" for key, change in changes.items()]

    def claim(self, what: str, facts: dict[str, Any], *, changeable: Collection[str] = ()) -> list[str]:
        """`check`, and from now on the folder is bound to `facts`: they are kept in RUN/<what>.json."""
        changes = self.check(what, facts, changeable=changeable)
        kept = self.path / f"{what}.json"
        if changes or not kept.exists():
            make_folder(self.checkpoints)
            write_text_atomic(kept, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        return changes

    def identity(self) -> str:
        """A name of this run that stays the same when it is resumed, for trackers."""
        kept = self.path / "identity"
        if not kept.exists():
            write_text_atomic(kept, secrets.token_hex(4))
        return kept.read_text()

    def newest(self) -> Path | None:
        """The newest complete checkpoint."""
        return next(reversed(self._complete()), None)

    def newest_intact(self, *, set_aside: bool) -> tuple[Path | None, dict[str, Any] | None, list[str]]:
        """The newest checkpoint that is as it was written, its state on the CPU, and a remark on every damaged one that
        was passed over; no checkpoint and no state where a run has none yet.

        set_aside: damaged ones get another name, so that their step can be saved again: of several processes, let one
        do it. Raises InputError where there are checkpoints and all are damaged: training from the start in their
        folder is nobody's wish, and all keep their names.
        """
        self._digests.clear()  # everything is read anew
        damaged: list[tuple[Path, str]] = []
        for checkpoint in reversed(self._complete()):
            try:
                state = read_state(checkpoint, self._digest_of)
            except DamagedError as reason:
                damaged.append((checkpoint, str(reason)))
                continue
            remarks = []
            for passed, reason_text in damaged:
                kept = f" (kept as {_set_aside(passed).name})" if set_aside else ""
                remarks.append(f"{passed}: damaged ({reason_text}), going back to {checkpoint.name}{kept}")
            return checkpoint, state, remarks
        if damaged:
            reasons = "; ".join(f"{checkpoint.name}: {reason}" for checkpoint, reason in damaged)
            raise InputError(f"{self.checkpoints}: every checkpoint is damaged: {reasons}; to begin anew, remove them")
        return None, None, []

    def best(self) -> tuple[Path, float] | None:
        """The intact checkpoint of the lowest score, of equals the earliest, and its score; None where none has one.

        A state is read once in the life of this object, and again where its file has changed.
        """
        return self._search_best()[0]

    def save(self, step: int, state: dict[str, Any], *, keep: int, score: float | None = None) -> None:
        """Writes checkpoints/step_…: under another name first, so a name without suffix is always complete.

        score: what validation made of the state, lower is better; None where there was none, and one that is not finite
        counts as none. Beside the `keep` newest checkpoints the best one stays, whatever its age; others are deleted
        once this one is on disk. Raises InputError where it can't be written: then all others are still there.
        """
        for leftover in self.checkpoints.glob(f"*{UNFINISHED}"):
            shutil.rmtree(leftover, ignore_errors=True)
        final = self.checkpoints / f"step_{step:06d}"
        if final.exists():
            raise ValueError(f"{final} is saved already")
        unfinished = final.with_name(final.name + UNFINISHED)
        score = score if score is not None and math.isfinite(score) else None
        try:
            digest = write_checkpoint(unfinished, state, step=step, score=score)
            unfinished.rename(final)
            sync_folder(self.checkpoints)
        except OSError as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise InputError(self._not_written(final, error, size_bytes(state))) from error
        self._digests[final / STATE] = _signature(final / STATE), digest
        self._retain(final, keep)

    def _not_written(self, final: Path, error: OSError, needed_bytes: int) -> str:
        newest = self.newest()
        free_bytes = shutil.disk_usage(_nearest_existing(self.checkpoints)).free
        return (
            f"{final}: the checkpoint can't be written: {error.strerror} ({needed_bytes / 2**20:.1f} MiB needed,"
            f" {free_bytes / 2**20:.1f} MiB free); once that is mended, the same command"
            f" {f'goes on from {newest}' if newest else 'begins again: there is no earlier checkpoint'}"
        )

    def _retain(self, latest: Path, keep: int) -> None:
        best, damaged = self._search_best()
        for checkpoint in damaged:  # else it would go as one of the many that are not the best
            _set_aside(checkpoint)
        complete = self._complete()
        stay = {latest, *complete[-keep:]} | ({best[0]} if best else set())
        for old in complete:
            if old not in stay:
                # Renamed, because half deleted it must not look like a checkpoint. Files that can't go yet (on NFS,
                # those that are open) are left to the next save.
                shutil.rmtree(old.rename(old.with_name(old.name + UNFINISHED)), ignore_errors=True)

    def _search_best(self) -> tuple[tuple[Path, float] | None, list[Path]]:
        """`best`, and the damaged checkpoints that claim to be better."""
        scores = {checkpoint: claimed_score(checkpoint) for checkpoint in self._complete()}
        claims = [(score, step_of(checkpoint), checkpoint) for checkpoint, score in scores.items() if score is not None]
        damaged: list[Path] = []
        for score, _, checkpoint in sorted(claims):
            try:
                if verify(checkpoint, self._digest_of):
                    return (checkpoint, score), damaged
            except DamagedError:
                damaged.append(checkpoint)
        return None, damaged

    def _digest_of(self, file: Path) -> str:
        """SHA-256 of a file; it is not read again as long as it looks the same."""
        signature, known = _signature(file), self._digests.get(file)
        if known is None or known[0] != signature:
            with file.open("rb") as opened:
                known = signature, hashlib.file_digest(opened, "sha256").hexdigest()
            self._digests[file] = known
        return known[1]

    def _complete(self) -> list[Path]:
        """By step, not by name: step_1000000 comes after step_990000."""
        return sorted((p for p in self.checkpoints.glob("step_*") if re.fullmatch(r"step_\d+", p.name)), key=step_of)

    def load(self, checkpoint: Path) -> dict[str, Any]:
        """Raises InputError for a damaged checkpoint. Only tensors and plain values are unpickled."""
        try:
            return read_state(checkpoint, self._digest_of)
        except DamagedError as reason:
            raise InputError(f"{checkpoint}: the checkpoint can't be read: {reason}") from None

    def log(self, row: dict[str, Any]) -> None:
        """Raises InputError where the row can't be written; what was written of it is dropped on resume."""
        try:
            with self._metrics.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise InputError(f"{self._metrics}: can't be written: {error.strerror}") from None

    def forget_after(self, step: int) -> None:
        """Drops metrics of steps that are trained again after a resume, and a row cut off by a crash."""
        if not self._metrics.exists():
            return
        kept = []
        for line in self._metrics.read_text(errors="replace").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if row["step"] <= step:
                kept.append(line + "\n")
        write_text_atomic(self._metrics, "".join(kept))


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Has `write` make a folder beside `folder`, then puts it in its place: what stands there is always complete."""
    fresh, old = folder.with_name(f".{folder.name}.fresh"), folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():  # a kill between the two renames below: what was there comes back
        old.rename(folder)
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    write(fresh)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _nearest_existing(path: Path) -> Path:
    # os.path.exists: that of Path raises for a name that is too long.
    return next(place for place in (path, *path.parents) if os.path.exists(place))  # noqa: PTH110


def _signature(file: Path) -> tuple[int, int, int]:
    there = file.stat()
    return there.st_ino, there.st_size, there.st_mtime_ns


def _set_aside(checkpoint: Path) -> Path:
    """Renames a damaged checkpoint: its step can be saved again, and nothing is lost that somebody may want to mend."""
    names = (f"{checkpoint.name}{DAMAGED}{number}" for number in ("", *range(2, 1000)))
    return checkpoint.rename(next(place for name in names if not (place := checkpoint.with_name(name)).exists()))
